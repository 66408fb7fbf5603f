-- Requests that were refused or parked since the last report on the books, in the order of their ids, and how many there are.
-- $1 timestamptz: the slot of this report; $2 bigint: how many at most
--
-- A request finishes a moment before it is visible, so the minute before that report is looked at again: told twice rather than
-- missed.
SELECT id, state, user_id, op, points, source, source_type, coalesce(source_id, order_id::text, of) AS reference, code, message, finished_at,
       count(*) OVER () AS all_rows
FROM pointsd.requests
WHERE state IN ('refused', 'parked')
  AND finished_at > coalesce((SELECT max(made) - interval '1 minute' FROM pointsd.documents
                              WHERE report = 'reconciliation' AND slot < $1), '-infinity')
ORDER BY id
LIMIT $2
