-- The daemons, the one that was seen last first.
SELECT host, pid, version, started, status, seen, extract(epoch FROM clock_timestamp() - seen)::bigint AS silent_for
FROM pointsd.daemons
ORDER BY seen DESC, host, pid
