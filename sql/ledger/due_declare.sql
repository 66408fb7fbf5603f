-- The accounts of a bucket that have something to expire, found once, each with the number of its due batches. WITH HOLD keeps
-- the list on the server beyond its transaction: the sweep holds neither a snapshot nor memory of its own for it, and its cost
-- follows what is due, not the ledger. In user_id order, because neighbouring index entries are then written together. SCROLL,
-- so that it can be counted and read from the start.
-- $1 timestamptz: what expires at this instant or before is due; $2 smallint: the bucket
DECLARE due_in_bucket SCROLL CURSOR WITH HOLD FOR
SELECT user_id, count(*) FROM pointsd.batches WHERE bucket = $2::smallint AND open AND expires_at <= $1 GROUP BY user_id ORDER BY user_id
