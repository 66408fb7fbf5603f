-- The points that remain in an account's batches are its balance, or none if it is in arrears.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq, greatest(0, a.balance)::text AS expected,
       s.remaining::text AS found, pointsd.clamp_bigint(s.remaining - greatest(0, a.balance)) AS points
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT coalesce(sum(b.remaining), 0) AS remaining FROM pointsd.batches AS b WHERE b.bucket = $2 AND b.user_id = a.user_id
) AS s
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[]) AND s.remaining <> greatest(0, a.balance)
