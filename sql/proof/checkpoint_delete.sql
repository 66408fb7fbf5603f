-- Deletes the checkpoints of accounts, so that the next screen of each reads its history from the first entry.
-- $1 uuid[]: the users
DELETE FROM pointsd.checkpoints WHERE bucket = 0 AND user_id = ANY ($1::uuid[])
