-- The newest requests. Instants are RFC 3339 texts, because some may be beyond what the driver can hold.
-- $1 text: only of this state, or null; $2 bigint: only with a lower id, or null; $3 bigint: how many at most
--
-- Open requests are in the order of their ids within each lane alone, so the newest of each lane are taken.
SELECT id, user_id, op, points, source, order_id, paid, currency, source_type, source_id, of, beyond, key, description, state, attempts, seq, code,
       message, duration::text AS duration, to_json(at) #>> '{}' AS at, to_json(expires_at) #>> '{}' AS expires_at,
       to_json(until) #>> '{}' AS until,
       to_json(enqueued_at) #>> '{}' AS enqueued_at, to_json(retry_at) #>> '{}' AS retry_at,
       to_json(finished_at) #>> '{}' AS finished_at
FROM (SELECT o.*
      FROM pointsd.request_lanes AS l
      CROSS JOIN LATERAL (SELECT * FROM pointsd.requests_open AS r
                          WHERE r.bucket = 0 AND r.lane = l.lane AND ($1::text IS NULL OR r.state = $1)
                            AND ($2::bigint IS NULL OR r.id < $2)
                          ORDER BY r.id DESC LIMIT $3) AS o
      WHERE $1::text IS NULL OR $1 IN ('pending', 'waiting')
      UNION ALL
      (SELECT * FROM pointsd.requests_done
       WHERE ($1::text IS NULL OR $1 NOT IN ('pending', 'waiting') AND state = $1) AND ($2::bigint IS NULL OR id < $2)
       ORDER BY id DESC LIMIT $3)) AS newest
ORDER BY id DESC
LIMIT $3
