-- An account's balance is opening + recharged - consumed - expired + refunded - voided + adjusted.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq, s.balance::text AS expected, a.balance::text AS found,
       pointsd.clamp_bigint(a.balance - s.balance) AS points
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT a.total_opening::numeric + a.total_recharged - a.total_consumed - a.total_expired + a.total_refunded
               - a.total_voided + a.total_adjusted AS balance
) AS s
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[]) AND a.balance <> s.balance
