-- What a run found: what stands already is marked as seen and told as it is now, what does not is written down.
-- $1 bigint: the run; $2 timestamptz: now; $3 text[] .. $8 text[]: rule, user, batch, entry, expected, found, pairwise
INSERT INTO pointsd.findings AS f (rule, user_id, batch, seq, expected, found, since, since_run, seen_run)
SELECT rule, user_id, batch, seq, expected, found, $2, $1, $1
FROM unnest($3::text[], $4::uuid[], $5::integer[], $6::bigint[], $7::text[], $8::text[])
    AS n (rule, user_id, batch, seq, expected, found)
ON CONFLICT (rule, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), coalesce(batch, 0), coalesce(seq, 0))
    WHERE cured IS NULL
DO UPDATE SET seen_run = excluded.seen_run, expected = excluded.expected, found = excluded.found
