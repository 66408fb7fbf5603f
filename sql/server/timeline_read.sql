-- Which database system this server belongs to, and the timeline that it writes: 8 hexadecimal digits, or null on a standby.
--
-- Not pg_control_checkpoint(): after a promotion it has the old timeline until the next checkpoint has ended.
SELECT system_identifier,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END AS timeline
FROM pg_catalog.pg_control_system()
