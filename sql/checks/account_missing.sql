-- Every batch, every entry and every hold has an account.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT u.user_id, NULL::integer AS batch, NULL::bigint AS seq, 'an account'::text AS expected,
       format('none, but %s batches, %s entries and %s holds',
              (SELECT count(*) FROM pointsd.batches AS b WHERE b.bucket = $2 AND b.user_id = u.user_id),
              (SELECT count(*) FROM pointsd.entries AS e WHERE e.bucket = $2 AND e.user_id = u.user_id),
              (SELECT count(*) FROM pointsd.holds AS h WHERE h.bucket = $2 AND h.user_id = u.user_id)) AS found,
       NULL::bigint AS points
FROM (SELECT DISTINCT unnest($1::uuid[])) AS u (user_id)
WHERE NOT EXISTS (SELECT FROM pointsd.accounts AS a WHERE a.bucket = $2 AND a.user_id = u.user_id)
  AND (EXISTS (SELECT FROM pointsd.batches AS b WHERE b.bucket = $2 AND b.user_id = u.user_id)
       OR EXISTS (SELECT FROM pointsd.entries AS e WHERE e.bucket = $2 AND e.user_id = u.user_id)
       OR EXISTS (SELECT FROM pointsd.holds AS h WHERE h.bucket = $2 AND h.user_id = u.user_id))
