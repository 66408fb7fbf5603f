-- As entry_insert_all, for accounts with an entry that has money in the group.
-- $1..$19: the columns, pairwise; $20 integer[], $21 bigint[]: batches and points of all allocations; $22 smallint: the drawing
-- rule; $23 bigint[]: the money of all allocations, or empty; $24 smallint: the bucket of the accounts
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
                            duration, description, key, batch, refers_to, asked, paid, currency, drawing_rule,
                            allocated_batches, allocated_points, allocated_paid, bucket)
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
       duration, description, key, batch, refers_to, asked, paid, currency, $22::smallint,
       ($20::integer[])[allocated_from:allocated_to], ($21::bigint[])[allocated_from:allocated_to],
       CASE WHEN array_remove(($23::bigint[])[allocated_from:allocated_to], NULL) <> '{}'
            THEN ($23::bigint[])[allocated_from:allocated_to] END, $24::smallint
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
            $9::timestamptz[], $10::numeric[], $11::text[], $12::uuid[], $13::integer[], $14::integer[],
            $15::integer[], $16::bigint[], $17::jsonb[], $18::bigint[], $19::text[])
    AS n (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
          duration, description, key, allocated_from, allocated_to, batch, refers_to, asked, paid, currency)
