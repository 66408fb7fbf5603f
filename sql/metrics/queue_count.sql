-- The queue: how many requests are in each state, and for how many seconds the oldest pending one has waited. Each count ends at a hundred
-- thousand, so that a large backlog is not read whole each time.
SELECT open.pending, open.waiting,
       (SELECT count(*) FROM (SELECT FROM pointsd.requests_done WHERE state = 'refused' LIMIT 100000) AS refused) AS refused,
       (SELECT count(*) FROM (SELECT FROM pointsd.requests_done WHERE state = 'parked' LIMIT 100000) AS parked) AS parked,
       coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - min(first.enqueued_at)), 0)
                 FROM pointsd.request_lanes AS l
                 CROSS JOIN LATERAL (SELECT r.enqueued_at FROM pointsd.requests_open AS r
                                     WHERE r.bucket = 0 AND r.lane = l.lane AND r.state = 'pending' AND isfinite(r.enqueued_at)
                                     ORDER BY r.id LIMIT 1) AS first), 0)::float8 AS oldest
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'waiting') AS waiting
      FROM (SELECT state FROM pointsd.requests_open LIMIT 100000) AS counted) AS open
