-- Locks a lane; no row if another daemon holds it. Later statements read the lane: their snapshots begin after the lock, so they show
-- the last holder's work. Returns the last id that was given, which it reads before it locks: snapshot_read.sql relies on that.
-- $1 smallint: the lane
SELECT coalesce(pg_sequence_last_value('pointsd.requests_id_seq'), 0) FROM pointsd.request_lanes WHERE lane = $1 FOR UPDATE SKIP LOCKED
