-- Where the histories of accounts part at two instants: the number of the last entry recorded before each, and the balance then;
-- 0 for none. An account without entries has no row.
--
-- A history lies in the order of its recording, so the number is found bit by bit. Which entries are looked at depends on the
-- instant alone, not on what was recorded later. So the answer stays the same even where a clock was once set back.
-- $1 uuid[]: the users; $2 timestamptz, $3 timestamptz: the instants; $4 smallint: the users' bucket
WITH RECURSIVE bits AS (
    SELECT a.user_id, b.nth, b.instant, 0::bigint AS seq,
           1::bigint << length(ltrim(a.last_seq::bit(64)::text, '0')) - 1 AS step
    FROM unnest($1::uuid[]) AS s (user_id)
    JOIN pointsd.accounts AS a ON a.bucket = $4::smallint AND a.user_id = s.user_id
    CROSS JOIN (VALUES (1, $2::timestamptz), (2, $3::timestamptz)) AS b (nth, instant)
    WHERE a.last_seq > 0
    UNION ALL
    SELECT b.user_id, b.nth, b.instant, CASE WHEN e.recorded_at < b.instant THEN e.seq ELSE b.seq END, b.step / 2
    FROM bits AS b
    LEFT JOIN pointsd.entries AS e ON e.bucket = $4::smallint AND e.user_id = b.user_id AND e.seq = b.seq + b.step
    WHERE b.step > 0
)
SELECT b.user_id,
       max(b.seq) FILTER (WHERE b.nth = 1) AS low, coalesce(max(e.balance_after) FILTER (WHERE b.nth = 1), 0) AS opening,
       max(b.seq) FILTER (WHERE b.nth = 2) AS high, coalesce(max(e.balance_after) FILTER (WHERE b.nth = 2), 0) AS closing
FROM bits AS b
LEFT JOIN pointsd.entries AS e ON e.bucket = $4::smallint AND e.user_id = b.user_id AND e.seq = b.seq
WHERE b.step = 0
GROUP BY b.user_id
ORDER BY b.user_id
