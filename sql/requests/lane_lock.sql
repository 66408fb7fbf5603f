-- Takes a lane, unless somebody has it: no row then. What is in the lane is read by later statements, whose snapshots are
-- taken after the lock and so show what the last holder left. Tells the last request's number that was given, too.
-- $1 smallint: the lane
SELECT coalesce(pg_sequence_last_value('pointsd.requests_id_seq'), 0) FROM pointsd.request_lanes WHERE lane = $1 FOR UPDATE SKIP LOCKED
