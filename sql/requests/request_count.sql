-- The requests that are not posted, by state. Posted ones are not counted: that would read the whole history. Two parts, because each
-- has the index of its own partition.
SELECT state, count(*) AS requests
FROM pointsd.requests
WHERE state IN ('pending', 'waiting')
GROUP BY state
UNION ALL
SELECT state, count(*)
FROM pointsd.requests
WHERE state IN ('refused', 'parked')
GROUP BY state
