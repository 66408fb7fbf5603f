-- What a report saw of the hour before it, for the next one.
-- $1 text[], $2 boolean[], $3 bigint[], $4 bigint[]: the columns, pairwise
INSERT INTO pointsd.expired_seen (source, by_sweep, batches, points)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::bigint[], $4::bigint[])
