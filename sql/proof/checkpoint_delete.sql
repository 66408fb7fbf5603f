-- Deletes the checkpoints of accounts, so that the next screen of each reads its history from the first entry.
-- $1 uuid[]: the users; $2 smallint: their bucket
DELETE FROM pointsd.checkpoints WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
