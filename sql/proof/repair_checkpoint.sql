-- Takes an account's history as it is now for what it should be: the next proof begins with it anew.
-- $1 uuid: the user
DELETE FROM pointsd.checkpoints WHERE user_id = $1
