-- Deletes findings that were resolved long ago.
-- $1 timestamptz: resolved before this instant; $2 bigint: how many at most
DELETE FROM pointsd.findings AS f
USING (SELECT o.finding FROM pointsd.findings AS o WHERE o.resolved_at < $1 ORDER BY o.finding LIMIT $2) AS old
WHERE f.finding = old.finding
