-- Records what a run found. A finding that stands already is marked as seen, with the values found now; others are inserted.
-- $1 bigint: the run; $2 timestamptz: now; $3 text[] .. $9 bigint[]: rule, user, batch, entry, expected, found and points,
-- pairwise; $10 smallint: the bucket in which they were found; null: that of each user
INSERT INTO pointsd.findings AS f
    (rule, user_id, batch, seq, expected, found, points, since, since_run, seen_run, bucket)
SELECT rule, user_id, batch, seq, expected, found, points, $2, $1, $1, coalesce($10::smallint, pointsd.bucket_of(user_id), 0)
FROM unnest($3::text[], $4::uuid[], $5::integer[], $6::bigint[], $7::text[], $8::text[], $9::bigint[])
    AS n (rule, user_id, batch, seq, expected, found, points)
ON CONFLICT (bucket, rule, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), coalesce(batch, 0), coalesce(seq, 0))
    WHERE resolved_at IS NULL
DO UPDATE SET seen_run = excluded.seen_run, expected = excluded.expected, found = excluded.found,
              points = excluded.points
