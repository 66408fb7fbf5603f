-- Locks the accounts of a group in user_id order, so that two groups over the same accounts wait for each other instead
-- of blocking each other for good, and reads them. A row for which the statement had to wait is read as the other
-- transaction left it. Batches and keys of the account are read by later statements, with snapshots that are
-- taken after the locks.
-- $1 uuid[]: the users
SELECT user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch, total_adjusted
FROM pointsd.accounts
WHERE bucket = 0 AND user_id = ANY ($1::uuid[])
ORDER BY user_id
FOR NO KEY UPDATE
