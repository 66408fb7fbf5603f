-- Puts parked, refused and waiting requests back to pending, as if they had just been inserted. Returns the state before of each id
-- that exists. Pending, posted and replayed requests stay as they are.
-- $1 bigint[]: the ids
WITH found AS MATERIALIZED (
    SELECT id, state FROM pointsd.requests WHERE id = ANY ($1::bigint[]) FOR UPDATE
), put_back AS (
    UPDATE pointsd.requests AS r
    SET state = 'pending', attempts = 0, code = NULL, message = NULL, retry_at = NULL, finished_at = NULL
    FROM found AS f
    WHERE r.id = f.id AND f.state IN ('parked', 'refused', 'waiting') AND r.state = f.state
)
SELECT id, state FROM found ORDER BY id
