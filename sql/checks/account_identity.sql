-- An account's balance is recharged - consumed - expired + adjusted.
-- $1 uuid[]: the users
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       (a.total_recharged::numeric - a.total_consumed - a.total_expired + a.total_adjusted)::text AS expected,
       a.balance::text AS found,
       pointsd.clamp_bigint(a.balance - (a.total_recharged::numeric - a.total_consumed - a.total_expired + a.total_adjusted))
           AS points
FROM pointsd.accounts AS a
WHERE a.bucket = 0 AND a.user_id = ANY ($1::uuid[])
  AND a.balance <> a.total_recharged::numeric - a.total_consumed - a.total_expired + a.total_adjusted
