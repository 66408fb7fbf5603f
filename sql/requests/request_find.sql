-- The next requests that may be put back, locked, in the order of their ids. The lanes are locked before.
-- $1 text: their state; $2 text: only with this code, or null; $3 uuid: only of this account, or null; $4 bigint: after this id;
-- $5 bigint: how many at most
SELECT id FROM pointsd.requests
WHERE state = $1 AND ($2::text IS NULL OR code = $2) AND ($3::uuid IS NULL OR user_id = $3) AND id > $4
ORDER BY id
LIMIT $5
FOR UPDATE
