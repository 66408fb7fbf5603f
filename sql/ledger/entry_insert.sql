-- A group's entries in the order in which they happened, of accounts without one that opens a batch or refers to another entry.
-- All allocations of a group come as two flat arrays, of which each entry takes the slice from allocated_from to allocated_to
-- (an empty one where from > to).
-- $1..$14: the columns, pairwise; $15 integer[], $16 bigint[]: batches and points of all allocations; $17 smallint: the
-- drawing rule; $18 smallint: the bucket of the accounts. Each column costs half a microsecond an entry.
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
                            duration, description, key, drawing_rule, allocated_batches, allocated_points, bucket)
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
       duration, description, key, $17::smallint,
       ($15::integer[])[allocated_from:allocated_to], ($16::bigint[])[allocated_from:allocated_to], $18::smallint
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
            $9::timestamptz[], $10::numeric[], $11::text[], $12::uuid[], $13::integer[], $14::integer[])
    AS n (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
          duration, description, key, allocated_from, allocated_to)
