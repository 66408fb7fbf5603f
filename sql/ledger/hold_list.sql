-- The holds of one account that reserve points at an instant, and those that are over by time but may still be captured.
-- $1 uuid: the user
SELECT user_id, key, points, at, until, seq, state, source_type, source_id, caller_key
FROM pointsd.holds
WHERE bucket = 0 AND user_id = $1 AND state = 'open'
ORDER BY until, at, source_type, source_id
