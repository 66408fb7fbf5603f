-- Reads the next finished requests in the order of their ids, which is nearly the order in which they finished. Deletes the old ones,
-- except refused and parked ones, which an operator has yet to read. Returns how many were deleted, how many were old, and the last id read. If
-- none was old, the rest is younger.
-- $1 timestamptz: over before this instant; $2 bigint: how many to look at; $3 bigint: after this id
WITH next AS MATERIALIZED (
    SELECT id, state, finished_at < $1 AS old FROM pointsd.requests_done WHERE id > $3 ORDER BY id LIMIT $2
), gone AS (
    DELETE FROM pointsd.requests_done WHERE id IN (SELECT id FROM next WHERE old AND state NOT IN ('refused', 'parked')) RETURNING id
)
SELECT (SELECT count(*) FROM gone), count(*) FILTER (WHERE old), max(id) FROM next
