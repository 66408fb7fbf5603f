-- The first transactions of each account that another service posted in a span, by the time there.
-- $1 uuid[]: the users; $2 timestamptz, $3 timestamptz: begin and end of the span; $4 bigint: at most so many of each
SELECT s.user_id, t.id, t.at, t.type, t.amount, t.balance_before, t.balance_after, t.source_type, t.source_id, t.description
FROM unnest($1::uuid[]) AS s (user_id)
CROSS JOIN LATERAL (
    SELECT * FROM pointsd.adopted_transactions AS n
    WHERE n.user_id = s.user_id AND n.at >= $2::timestamptz AND n.at < $3::timestamptz
    ORDER BY n.at, n.id
    LIMIT $4
) AS t
ORDER BY s.user_id, t.at, t.id
