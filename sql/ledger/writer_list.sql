-- The transactions that have written entries and not ended yet, prepared ones among them. A prepared transaction has no
-- process.
SELECT virtualtransaction, pid
FROM pg_catalog.pg_locks
WHERE locktype = 'relation' AND relation = 'pointsd.entries'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND pid IS DISTINCT FROM pg_backend_pid()
