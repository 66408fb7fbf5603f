-- $1 uuid, $2 uuid: first and last user; $3 smallint: the bucket
SELECT a.user_id, a.balance, a.total_recharged, a.total_consumed, a.total_expired, a.total_refunded, a.total_voided,
       a.total_adjusted, a.total_opening, a.last_seq, a.expired_until, a.last_batch, a.open_holds,
       CASE WHEN a.open_holds > 0 THEN (
           SELECT coalesce(sum(h.points), 0)::bigint FROM pointsd.holds AS h
           WHERE h.bucket = $3::smallint AND h.user_id = a.user_id AND h.state = 'open' AND h.until > now())
       ELSE 0 END AS held
FROM pointsd.accounts AS a
WHERE a.bucket = $3::smallint AND a.user_id BETWEEN $1 AND $2
ORDER BY a.user_id
