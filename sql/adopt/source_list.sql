-- What the accounts are to open with, by source and currency; debts and what is forgiven apart.
SELECT CASE WHEN points < 0 THEN 'debt' WHEN is_forgiven THEN 'forgiven' ELSE 'points' END AS kind, source, currency,
       count(*) AS rows, count(DISTINCT user_id) AS accounts, sum(abs(points))::bigint AS points, coalesce(sum(paid), 0)::bigint AS paid
FROM pointsd.adopted_openings
GROUP BY 1, 2, 3
ORDER BY 1 DESC, 2, 3
