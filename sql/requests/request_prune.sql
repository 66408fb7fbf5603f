-- Deletes requests that are long over, but for parked ones: somebody has yet to look at those. On from the last one, so
-- that what was deleted just now is not passed again. Tells how many that were, and the last of them.
-- $1 timestamptz: over before this instant; $2 bigint: how many at most; $3 bigint, $4 bigint: after this id, up to that
WITH gone AS (
    DELETE FROM jobs.requests_done
    WHERE id IN (SELECT o.id FROM jobs.requests_done AS o
                 WHERE o.id > $3 AND o.id <= $4 AND o.finished_at < $1 AND o.state <> 'parked'
                 ORDER BY o.id
                 LIMIT $2)
    RETURNING id
)
SELECT count(*), max(id) FROM gone
