-- Finds the end of a group of accounts: the first user after it. No row: the group goes to the last user.
-- $1 uuid: its first user; $2 bigint: accounts in it
SELECT user_id FROM pointsd.accounts WHERE bucket = 0 AND user_id >= $1 ORDER BY user_id OFFSET $2 LIMIT 1
