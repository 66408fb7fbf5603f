-- One account's books, and what of it is spendable.
-- $1 uuid: the user; $2 timestamptz: the instant at which a batch must still be alive
SELECT a.balance, a.total_recharged, a.total_consumed, a.total_expired, a.total_adjusted,
       (SELECT coalesce(sum(b.remaining), 0)::bigint
        FROM pointsd.batches AS b
        WHERE b.bucket = 0 AND b.user_id = a.user_id AND b.open AND b.expires_at > $2) AS available
FROM pointsd.accounts AS a
WHERE a.bucket = 0 AND a.user_id = $1
