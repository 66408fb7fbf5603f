-- Deletes findings that were cured long ago.
-- $1 timestamptz: cured before this instant; $2 bigint: how many at most
DELETE FROM pointsd.findings AS f
USING (SELECT o.finding FROM pointsd.findings AS o WHERE o.cured < $1 ORDER BY o.finding LIMIT $2) AS old
WHERE f.finding = old.finding
