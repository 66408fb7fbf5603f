-- The next openings, in the order of posting.
-- $1 uuid, $2 integer: the last one before them; $3 bigint: how many
SELECT user_id, nth, points, opened_at, expires_at, paid, is_forgiven, source, id, currency
FROM pointsd.adopted_openings
WHERE (user_id, nth) > ($1::uuid, $2::integer)
ORDER BY user_id, nth
LIMIT $3
