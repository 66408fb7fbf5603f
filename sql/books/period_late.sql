-- Sums the entries recorded in a period whose effective time lies before it, by the month of that time and by type. What accounts
-- brought along from elsewhere is older by its nature.
-- $1 timestamptz, $2 timestamptz: the begin and the end of the period; $3 text: the zone of the business
SELECT date_trunc('month', at AT TIME ZONE $3)::date AS month, type, count(*) AS entries,
       pointsd.clamp_bigint(sum(balance_after::numeric - balance_before)) AS points
FROM pointsd.entries
WHERE recorded_at >= $1 AND recorded_at < $2 AND at < $1 AND type <> 'opening'
GROUP BY 1, 2
ORDER BY 1, 2
