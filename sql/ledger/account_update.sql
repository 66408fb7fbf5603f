-- Accounts as a group leaves them. Their rows are locked since account_lock.
-- $1 uuid[], $2..$7: the columns, pairwise
UPDATE pointsd.accounts AS a
SET balance = c.balance,
    total_recharged = c.total_recharged,
    total_consumed = c.total_consumed,
    total_expired = c.total_expired,
    last_seq = c.last_seq,
    last_batch = c.last_batch
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[])
    AS c (user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
WHERE a.bucket = 0 AND a.user_id = c.user_id
