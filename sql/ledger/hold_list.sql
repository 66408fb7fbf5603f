-- The holds of one account that reserve points at an instant, and those that are over by time but may still be captured: the next to
-- end first.
-- $1 uuid: the user; $2 uuid: after the hold with this key, or null; $3 bigint: at most so many
SELECT h.user_id, h.key, h.points, h.at, h.until, h.seq, h.state, h.source_type, h.source_id, h.caller_key
FROM (SELECT coalesce((SELECT l.until FROM pointsd.holds AS l WHERE l.bucket = pointsd.bucket_of($1) AND l.key = $2), '-infinity') AS until,
             coalesce($2, '00000000-0000-0000-0000-000000000000') AS key) AS last,
     pointsd.holds AS h
WHERE h.bucket = pointsd.bucket_of($1) AND h.user_id = $1 AND h.state = 'open' AND (h.until, h.key) > (last.until, last.key)
ORDER BY h.until, h.key
LIMIT $3
