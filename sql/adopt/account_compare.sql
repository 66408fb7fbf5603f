-- Whether the ledger opened each account as planned: what the accounts opened with in all, and how many of them opened with something
-- else than planned.
SELECT count(*) AS accounts, coalesce(sum(a.total_opening), 0)::bigint AS opened,
       count(*) FILTER (WHERE a.total_opening IS DISTINCT FROM planned.points) AS different
FROM (
    SELECT user_id, sum(points)::bigint AS points
    FROM pointsd.adopted_openings
    WHERE NOT is_forgiven
    GROUP BY user_id
) AS planned
LEFT JOIN pointsd.accounts AS a ON a.bucket = pointsd.bucket_of(planned.user_id) AND a.user_id = planned.user_id
