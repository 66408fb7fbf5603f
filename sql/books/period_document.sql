-- Loads the report that a month kept with its last event; null if that reopened it.
-- $1 date: its first day
SELECT document
FROM pointsd.periods
WHERE month = $1
ORDER BY event DESC
LIMIT 1
