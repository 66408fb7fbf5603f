-- Writes the batches of a repair. Their account is locked.
-- $1 uuid: the user; $2 integer[]: the batches; $3 bigint[], $4 bigint[], $5 bigint[], $6 text[], $7 text[], $8 bigint[], $9 text[]: the
-- columns, pairwise
UPDATE pointsd.batches AS b
SET amount = c.amount, remaining = c.remaining, expired = c.expired, open = c.remaining > 0, source = c.source,
    opened_at = c.opened_at, paid = c.paid, currency = c.currency
FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
            $7::text[]::timestamptz[], $8::bigint[],
            $9::text[])
    AS c (batch, amount, remaining, expired, source, opened_at, paid, currency)
WHERE b.bucket = pointsd.bucket_of($1) AND b.user_id = $1 AND b.batch = c.batch
