-- A group's entries, in the order in which they happened. All their allocations come as two flat arrays, of which each
-- entry takes the slice from allocated_from to allocated_to (an empty one where from > to).
-- $1..$17: the columns, pairwise; $18 integer[], $19 bigint[]: batches and points of all allocations; $20 smallint: the
-- drawing rule
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
                            at, duration, description, refers_to, asked, key, drawing_rule, allocated_batches,
                            allocated_points)
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
       at, duration, description, refers_to, asked, key, $20::smallint,
       ($18::integer[])[allocated_from:allocated_to], ($19::bigint[])[allocated_from:allocated_to]
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
            $9::integer[], $10::timestamptz[], $11::numeric[], $12::text[], $13::bigint[], $14::jsonb[],
            $15::uuid[], $16::integer[], $17::integer[])
    AS n (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch,
          at, duration, description, refers_to, asked, key, allocated_from, allocated_to)
