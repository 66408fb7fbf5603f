-- The users of accounts, in order.
-- $1 uuid: after this one, or null; $2 bigint: at most so many
SELECT a.user_id
FROM pointsd.accounts AS a
WHERE a.bucket = 0 AND a.user_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
ORDER BY a.user_id
LIMIT $2
