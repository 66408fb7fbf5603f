-- How many transactions of accounts another service posted in a span. An account without any has no row; a plan alone counts nothing.
-- $1 uuid[]: the users; $2 timestamptz, $3 timestamptz: begin and end of the span
SELECT s.user_id, t.count
FROM unnest($1::uuid[]) AS s (user_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS count
    FROM pointsd.adopted_transactions AS n
    WHERE n.user_id = s.user_id AND n.at >= $2::timestamptz AND n.at < $3::timestamptz
) AS t
WHERE t.count > 0 AND EXISTS (SELECT FROM pointsd.adoption AS a WHERE a.only_one AND a.state <> 'planned')
