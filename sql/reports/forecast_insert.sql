-- Keeps what a report forecasts, unless one of a later instant is there.
-- $1 timestamptz: the slot that its days are counted from; $2 timestamptz: the instant that it shows; $3 timestamptz[]: the ends; $4, $5 bigint[]: batches,
-- points
INSERT INTO pointsd.expiry_forecast (slot, as_of, ends, batches, points)
SELECT $1, $2, f.*
FROM unnest($3::timestamptz[], $4::bigint[], $5::bigint[]) AS f
WHERE NOT EXISTS (SELECT FROM pointsd.expiry_forecast)
