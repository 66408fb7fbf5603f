-- What a report saw of accounts, for the next one.
-- $1 uuid[], $2 bigint[], $3 bigint[], $4 timestamptz[]: the columns, pairwise
INSERT INTO pointsd.arrears_seen (user_id, owed, seq, moved)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[])
ON CONFLICT (user_id) DO UPDATE SET owed = excluded.owed, seq = excluded.seq, moved = excluded.moved
