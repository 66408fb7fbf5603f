-- When the first entry was recorded; null where there is none. Reads all of them: asked only before the first day is
-- closed.
SELECT min(recorded_at) FROM pointsd.entries
