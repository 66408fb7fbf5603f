-- Batches that a group opens. One that was settled or drawn to the last point within the group is closed at once.
-- $1 uuid[], $2..$8: the columns, pairwise; $9 smallint: the bucket of the accounts
INSERT INTO pointsd.batches (user_id, batch, amount, remaining, expired, open, source, opened_at, expires_at, bucket)
SELECT user_id, batch, amount, remaining, expired, remaining > 0, source, opened_at, expires_at, $9::smallint
FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[],
            $8::timestamptz[])
    AS n (user_id, batch, amount, remaining, expired, source, opened_at, expires_at)
