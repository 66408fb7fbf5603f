-- One request. Instants are RFC 3339 texts, because some may be beyond what the driver can hold.
-- $1 bigint: its number
SELECT id, user_id, op, points, source, order_id, paid, currency, source_type, source_id, of, beyond, key, description, state, attempts, seq, code,
       message, duration::text AS duration, to_json(at) #>> '{}' AS at, to_json(expires_at) #>> '{}' AS expires_at,
       to_json(until) #>> '{}' AS until,
       to_json(enqueued_at) #>> '{}' AS enqueued_at, to_json(retry_at) #>> '{}' AS retry_at,
       to_json(finished_at) #>> '{}' AS finished_at
FROM pointsd.requests
WHERE id = $1
