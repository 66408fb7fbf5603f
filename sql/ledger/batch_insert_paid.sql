-- As batch_insert, of batches with a price.
-- $1 uuid[], $2..$10: the columns, pairwise; $11 smallint: the bucket of the accounts
INSERT INTO pointsd.batches (user_id, batch, amount, remaining, expired, open, source, opened_at, expires_at, paid, currency, bucket)
SELECT user_id, batch, amount, remaining, expired, remaining > 0, source, opened_at, expires_at, paid, currency, $11::smallint
FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[],
            $8::timestamptz[], $9::bigint[], $10::text[])
    AS n (user_id, batch, amount, remaining, expired, source, opened_at, expires_at, paid, currency)
