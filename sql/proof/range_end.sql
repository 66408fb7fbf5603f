-- Finds the end of a group of accounts: the first user after it. No row: the group goes to the last user.
-- $1 uuid: its first user; $2 bigint: accounts in it; $3 smallint: the bucket
SELECT user_id FROM pointsd.accounts WHERE bucket = $3::smallint AND user_id >= $1 ORDER BY user_id OFFSET $2 LIMIT 1
