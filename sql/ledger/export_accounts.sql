-- $1 uuid, $2 uuid: first and last user
SELECT user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch, total_adjusted
FROM pointsd.accounts
WHERE bucket = 0 AND user_id BETWEEN $1 AND $2
ORDER BY user_id
