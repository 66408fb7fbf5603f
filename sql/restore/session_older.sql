-- Counts the sessions of pointsd on this database that began before this one, or whose beginning this role may not see.
SELECT count(*)
FROM pg_catalog.pg_stat_activity AS own
JOIN pg_catalog.pg_stat_activity AS other
  ON other.datname = own.datname AND other.application_name = own.application_name AND other.pid <> own.pid
     AND (other.backend_start IS NULL OR other.backend_start < own.backend_start)
WHERE own.pid = pg_catalog.pg_backend_pid()
