-- Puts requests back to pending, as if they had just been inserted. Returns the state before of each id that exists. Requests in
-- another state than those given stay as they are.
-- The lanes are locked first: a daemon that reads which requests wait, and then the next ones, must not see this in between.
-- $1 bigint[]: the ids; $2 text[]: the states from which a request is put back
WITH lanes AS MATERIALIZED (
    SELECT lane FROM pointsd.request_lanes ORDER BY lane FOR UPDATE
), found AS MATERIALIZED (
    SELECT id, state FROM pointsd.requests WHERE id = ANY ($1::bigint[]) AND (SELECT count(*) FROM lanes) > 0 FOR UPDATE
), put_back AS (
    UPDATE pointsd.requests AS r
    SET state = 'pending', attempts = 0, code = NULL, message = NULL, retry_at = NULL, finished_at = NULL
    FROM found AS f
    WHERE r.id = f.id AND f.state = ANY ($2::text[]) AND r.state = f.state
)
SELECT id, state FROM found ORDER BY id
