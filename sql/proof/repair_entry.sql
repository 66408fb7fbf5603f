-- Inserts the adjust entry of a repair.
-- $1 uuid: the user; $2 bigint: its number; $3..$5 bigint: points, balance before and after; $6 timestamptz: now;
-- $7 text: the reason; $8 integer[], $9 bigint[]: batches, and points taken out of each or, below zero, put back; $10 smallint:
-- the drawing rule; $11 jsonb: the correction; $12 bigint[]: the money that each allocation releases or, below zero, gives back; or
-- null
INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at, description,
                            drawing_rule, allocated_batches, allocated_points, correction, allocated_paid, bucket)
VALUES ($1, $2, 'adjust', $3, $4, $5, 'repair', $6, $7, $10, $8, $9, $11, $12,
        pointsd.bucket_of($1))
