-- Accounts as a group leaves them. Their rows are locked since account_lock.
-- $1 uuid[], $2..$11: the columns, pairwise
UPDATE pointsd.accounts AS a
SET balance = c.balance,
    total_recharged = c.total_recharged,
    total_consumed = c.total_consumed,
    total_expired = c.total_expired,
    total_refunded = c.total_refunded,
    total_voided = c.total_voided,
    last_seq = c.last_seq,
    expired_until = c.expired_until,
    last_batch = c.last_batch,
    open_holds = c.open_holds
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::timestamptz[], $10::integer[], $11::integer[])
    AS c (user_id, balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided, last_seq,
          expired_until, last_batch, open_holds)
WHERE a.bucket = 0 AND a.user_id = c.user_id
