-- As entry_insert, for accounts with a recharge, a refund or a void in the group: with the batch that an entry opened, the entry
-- that it refers to, and what was asked for.
-- $1..$17: the columns, pairwise; $18 integer[], $19 bigint[]: batches and points of all allocations; $20 smallint: the
-- drawing rule; $21 smallint: the bucket of the accounts
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
                            duration, description, key, batch, refers_to, asked, drawing_rule, allocated_batches,
                            allocated_points, bucket)
SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
       duration, description, key, batch, refers_to, asked, $20::smallint,
       ($18::integer[])[allocated_from:allocated_to], ($19::bigint[])[allocated_from:allocated_to], $21::smallint
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
            $9::timestamptz[], $10::numeric[], $11::text[], $12::uuid[], $13::integer[], $14::integer[],
            $15::integer[], $16::bigint[], $17::jsonb[])
    AS n (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, at,
          duration, description, key, allocated_from, allocated_to, batch, refers_to, asked)
