-- Accounts as recharges and consumes leave them: the columns that no other posting needs. Their rows are locked since account_lock.
-- $1 uuid[], $2..$6: the columns, pairwise; $7 smallint: the bucket of the accounts. Each column costs about as much as a
-- twentieth of the row's update.
UPDATE pointsd.accounts AS a
SET balance = c.balance,
    total_recharged = c.total_recharged,
    total_consumed = c.total_consumed,
    last_seq = c.last_seq,
    last_batch = c.last_batch
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[])
    AS c (user_id, balance, total_recharged, total_consumed, last_seq, last_batch)
WHERE a.bucket = $7::smallint AND a.user_id = c.user_id
