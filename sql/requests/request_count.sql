-- The requests that are not posted, by state. Posted ones are not counted: that would read the whole history. Each part has the index
-- of its own partition or state.
-- $1 bigint: where each count ends, or null
SELECT state, count(*) AS requests
FROM (SELECT state FROM pointsd.requests_open LIMIT $1) AS open
GROUP BY state
UNION ALL
SELECT 'refused', count(*) FROM (SELECT FROM pointsd.requests_done WHERE state = 'refused' LIMIT $1) AS refused
UNION ALL
SELECT 'parked', count(*) FROM (SELECT FROM pointsd.requests_done WHERE state = 'parked' LIMIT $1) AS parked
