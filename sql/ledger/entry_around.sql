-- Where the history of an account parts at an instant: the number of the last entry recorded before it, that of the next one,
-- and the number after the last entry of all. The history is halved again and again, because it lies in the order of its
-- recording. Null for an account that was never opened.
-- $1 uuid: the user; $2 timestamptz: the instant
WITH RECURSIVE halves AS (
    SELECT 0::bigint AS low, a.last_seq + 1 AS high
    FROM pointsd.accounts AS a
    WHERE a.bucket = pointsd.bucket_of($1) AND a.user_id = $1
    UNION ALL
    SELECT CASE WHEN e.recorded_at < $2 THEN e.seq ELSE h.low END, CASE WHEN e.recorded_at < $2 THEN h.high ELSE e.seq END
    FROM halves AS h
    JOIN pointsd.entries AS e ON e.bucket = pointsd.bucket_of($1) AND e.user_id = $1 AND e.seq = (h.low + h.high) / 2
    WHERE h.high - h.low > 1
)
SELECT max(low) AS low, min(high) AS high, max(high) AS past_end FROM halves
