-- The newest requests. Instants are RFC 3339 texts, because some may be beyond what the driver can hold.
-- $1 text: only of this state, or null; $2 bigint: only with a lower id, or null; $3 bigint: how many at most
SELECT id, user_id, op, points, source, order_id, source_type, source_id, of, beyond, key, description, state, attempts, seq, code,
       message, duration::text AS duration, to_json(at) #>> '{}' AS at, to_json(expires_at) #>> '{}' AS expires_at,
       to_json(until) #>> '{}' AS until,
       to_json(enqueued_at) #>> '{}' AS enqueued_at, to_json(retry_at) #>> '{}' AS retry_at,
       to_json(finished_at) #>> '{}' AS finished_at
FROM pointsd.requests
WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR id < $2)
ORDER BY id DESC
LIMIT $3
