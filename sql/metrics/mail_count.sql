-- The last ten thousand mails by state, and for how many seconds the oldest of each state has been there.
SELECT state, count(*) AS mails, greatest(extract(epoch FROM clock_timestamp() - min(written)), 0)::float8 AS oldest
FROM (SELECT state, written FROM pointsd.outbox ORDER BY mail DESC LIMIT 10000) AS last
GROUP BY state
