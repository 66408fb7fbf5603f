-- Finds when the first entry was recorded; null if there is none. Reads all entries, so it runs only before the first day is
-- closed.
SELECT min(recorded_at) FROM pointsd.entries
