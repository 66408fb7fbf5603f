-- What a report says will expire, and what it has seen already of the hour before.
-- $1 timestamptz: its slot; $2 timestamptz: the instant of its snapshot; $3 timestamptz[]: the ends; $4..$8 bigint[]:
-- batches, points, recharged, spent, expired
INSERT INTO pointsd.expiry_forecast (slot, as_of, ends, batches, points, recharged, spent, expired)
SELECT $1, $2, f.*
FROM unnest($3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) AS f
