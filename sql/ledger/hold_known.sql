-- The holds that a group's postings concern: by their keys, and those of the accounts that may stand.
-- $1 uuid[]: keys; $2 uuid[], $3 timestamptz[]: users, and the earliest hold that is asked for on each, pairwise; $4 smallint: the bucket of
-- the users
SELECT user_id, key, points, at, until, seq, state, source_type, source_id, caller_key
FROM pointsd.holds
WHERE bucket = $4::smallint AND key = ANY ($1::uuid[])
UNION
SELECT h.user_id, h.key, h.points, h.at, h.until, h.seq, h.state, h.source_type, h.source_id, h.caller_key
FROM unnest($2::uuid[], $3::timestamptz[]) AS asked (user_id, since)
JOIN pointsd.holds AS h ON h.bucket = $4::smallint AND h.user_id = asked.user_id AND h.state = 'open' AND h.until > asked.since
