-- A daemon's sign of life. Rows of daemons that were killed go after a week.
-- $1 text, $2 integer: host and process; $3 text: its version; $4 timestamptz: when it started; $5 text: its status
WITH gone AS (DELETE FROM pointsd.daemons WHERE seen < clock_timestamp() - interval '7 days' AND (host, pid) <> ($1, $2))
INSERT INTO pointsd.daemons (host, pid, version, started, seen, status) VALUES ($1, $2, $3, $4, clock_timestamp(), $5)
ON CONFLICT (host, pid) DO UPDATE
SET version = excluded.version, started = excluded.started, seen = excluded.seen, status = excluded.status
