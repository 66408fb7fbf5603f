-- Every account of a bucket that had an entry at a past instant, as it was then.
-- $1 uuid, $2 uuid: first and last user; $3 timestamptz, $4 timestamptz: as_of, or effective_at; the other is null;
-- $5 smallint: the bucket
SELECT a.user_id, t.balance, t.arrears, t.total_recharged, t.total_consumed, t.total_expired, t.total_refunded, t.total_voided,
       t.total_adjusted, t.total_opening
FROM pointsd.accounts AS a
CROSS JOIN LATERAL pointsd.account_then(a.user_id, $3, $4) AS t
WHERE a.bucket = $5::smallint AND a.user_id BETWEEN $1 AND $2
  AND (t.total_recharged <> 0 OR t.total_consumed <> 0 OR t.total_adjusted <> 0 OR t.total_opening <> 0)
ORDER BY a.user_id
