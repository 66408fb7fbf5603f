-- Whether any entry was recorded before an instant.
-- $1 timestamptz: the instant
SELECT EXISTS (SELECT 1 FROM pointsd.entries WHERE recorded_at < $1)
