-- Records a failed try. The request waits for the next one, twice as long each time (a day at most), or it is parked.
-- $1 smallint: the lane; $2 bigint: the id; $3 integer: further tries after the first; $4 bigint: milliseconds before the
-- first of them; $5 text: why it failed
UPDATE pointsd.requests AS r
SET attempts = r.attempts + 1, code = 'failed', message = $5,
    state = CASE WHEN r.attempts >= $3 THEN 'parked' ELSE 'waiting' END,
    retry_at = CASE WHEN r.attempts < $3::integer
        THEN clock_timestamp() + least($4::bigint * power(2, least(r.attempts, 30)), 86400000) * interval '1 millisecond' END,
    finished_at = CASE WHEN r.attempts >= $3 THEN clock_timestamp() END
WHERE r.bucket = 0 AND r.lane = $1 AND r.id = $2 AND r.state IN ('pending', 'waiting')
RETURNING state, attempts
