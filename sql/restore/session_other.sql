-- Counts the other sessions of pointsd on this database.
SELECT count(*)
FROM pg_catalog.pg_stat_activity AS own
JOIN pg_catalog.pg_stat_activity AS other
  ON other.datname = own.datname AND other.application_name = own.application_name AND other.pid <> own.pid
WHERE own.pid = pg_catalog.pg_backend_pid()
