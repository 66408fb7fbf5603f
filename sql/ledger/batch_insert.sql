-- Batches that a group opens. One that was settled or drawn to the last point within the group is closed at once.
-- $1 uuid[], $2..$7: the columns, pairwise
INSERT INTO pointsd.batches (user_id, batch, amount, remaining, open, source, opened_at, expires_at)
SELECT user_id, batch, amount, remaining, remaining > 0, source, opened_at, expires_at
FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[], $7::timestamptz[])
    AS n (user_id, batch, amount, remaining, source, opened_at, expires_at)
