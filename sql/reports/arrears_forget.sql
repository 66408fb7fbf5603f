-- Accounts that the next report on arrears need not know.
-- $1 uuid[]: the users
DELETE FROM reports.arrears WHERE user_id = ANY ($1::uuid[])
