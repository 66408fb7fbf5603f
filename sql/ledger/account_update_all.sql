-- As account_update, with the columns that expiries, restores, refunds, voids, openings and holds change.
-- $1 uuid[], $2..$12: the columns, pairwise; $13 smallint: the bucket of the accounts
UPDATE pointsd.accounts AS a
SET balance = c.balance,
    total_recharged = c.total_recharged,
    total_consumed = c.total_consumed,
    last_seq = c.last_seq,
    last_batch = c.last_batch,
    total_expired = c.total_expired,
    total_refunded = c.total_refunded,
    total_voided = c.total_voided,
    expired_until = c.expired_until,
    open_holds = c.open_holds,
    total_opening = c.total_opening
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::timestamptz[], $11::integer[], $12::bigint[])
    AS c (user_id, balance, total_recharged, total_consumed, last_seq, last_batch, total_expired, total_refunded,
          total_voided, expired_until, open_holds, total_opening)
WHERE a.bucket = $13::smallint AND a.user_id = c.user_id
