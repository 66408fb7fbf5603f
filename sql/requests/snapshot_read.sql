-- Two transaction numbers, and the time. All transactions below the first number are over; the second is this one's own. lane_lock.sql
-- has read the last id before it locked the lane, and the lock gave this transaction its number. So the transactions that were given
-- that id, or a lower one, have lower numbers.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_current_xact_id()::text::bigint, clock_timestamp()
