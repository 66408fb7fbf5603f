-- The next openings, in the order of posting. A batch that has ended since the plan opens all the same, for ten minutes: the account
-- has what the plan says, and the ledger expires it.
-- $1 uuid, $2 integer: the last one before them; $3 bigint: how many
SELECT user_id, nth, points, opened_at,
       CASE WHEN expires_at IS NOT NULL THEN greatest(expires_at, clock_timestamp() + interval '10 minutes') END AS expires_at, paid, is_forgiven, source, id, currency
FROM pointsd.adopted_openings
WHERE (user_id, nth) > ($1::uuid, $2::integer)
ORDER BY user_id, nth
LIMIT $3
