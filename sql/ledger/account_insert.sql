-- Accounts that a group opens. If another transaction opened one of them meanwhile, this fails by accounts_pkey, and the
-- group is decided again. The arrays are in user_id order: two groups that open the same accounts meet at the first of them.
-- $1 uuid[], $2..$12: the columns, pairwise; $13 smallint: the bucket of the accounts
INSERT INTO pointsd.accounts (user_id, balance, total_recharged, total_consumed, last_seq, last_batch, total_expired,
                              total_refunded, total_voided, expired_until, open_holds, total_opening, bucket)
SELECT *, $13::smallint
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::timestamptz[], $11::integer[], $12::bigint[])
