-- Accounts that the next report on arrears need not know.
-- $1 uuid[]: the users
DELETE FROM pointsd.arrears_seen WHERE user_id = ANY ($1::uuid[])
