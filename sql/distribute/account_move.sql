-- Moves the next accounts of a bucket that belong to another one, and returns the first one that was not looked at; null at the end.
-- $1 smallint: the bucket; $2 uuid: from this user on; $3 integer: accounts that are looked at
SELECT pointsd.move_accounts($1, $2, $3)
