-- Where a group of so many accounts ends: the first user behind it; no row where it goes to the end.
-- $1 uuid: its first user
-- $2 bigint: accounts in it
SELECT user_id FROM pointsd.accounts WHERE user_id >= $1 ORDER BY user_id OFFSET $2 LIMIT 1
