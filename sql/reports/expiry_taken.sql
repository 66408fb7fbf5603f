-- What entries of expiry took, by source and by way: a sweep's entries carry its run, those of postings carry none.
-- $1 timestamptz: entries recorded later …; $2 timestamptz: … and up to this instant
SELECT source_type AS source, run IS NOT NULL AS by_sweep, count(*) AS batches, sum(amount)::bigint AS points
FROM pointsd.entries
WHERE recorded_at > $1 AND recorded_at <= $2 AND type = 'expire'
GROUP BY 1, 2
ORDER BY 1, 2
