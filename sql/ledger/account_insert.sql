-- Accounts that a group opens. If another transaction opened one of them meanwhile, this fails by accounts_pkey, and the
-- group is decided again. The arrays are in user_id order: two groups that open the same accounts meet at the first of them.
-- $1 uuid[], $2..$11: the columns, pairwise
INSERT INTO pointsd.accounts (user_id, balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided,
                              last_seq, expired_until, last_batch, open_holds)
SELECT *
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::timestamptz[], $10::integer[], $11::integer[])
