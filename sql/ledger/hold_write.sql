-- Holds that a group made, moved or ended. Their accounts are locked.
-- $1 uuid[], $2..$10: the columns, pairwise; $11 smallint: the bucket of the accounts
INSERT INTO pointsd.holds (user_id, key, points, at, until, seq, state, source_type, source_id, caller_key, bucket)
SELECT *, $11::smallint
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::text[], $8::text[],
            $9::text[], $10::text[])
ON CONFLICT (bucket, key) DO UPDATE
SET at = excluded.at, until = excluded.until, seq = excluded.seq, state = excluded.state
