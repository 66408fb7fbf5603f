-- For how many seconds a commit has waited for a synchronous standby, the longest one; null if none waits. The sessions of other
-- roles are seen with the rights of pg_read_all_stats only.
SELECT extract(epoch FROM clock_timestamp() - min(query_start))::bigint AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND wait_event = 'SyncRep'
