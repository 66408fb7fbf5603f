-- Two transaction numbers: all transactions below the first are over, and none from the second on had begun when the statement before
-- this one ran.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
