-- Keeps what a report forecasts.
-- $1 timestamptz: its slot; $2 timestamptz: the instant that it shows; $3 timestamptz[]: the ends; $4, $5 bigint[]: batches,
-- points
INSERT INTO pointsd.expiry_forecast (slot, as_of, ends, batches, points)
SELECT $1, $2, f.*
FROM unnest($3::timestamptz[], $4::bigint[], $5::bigint[]) AS f
