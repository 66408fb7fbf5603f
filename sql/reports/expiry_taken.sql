-- What expired, by source and by way, and what of expired points was restored for late usage. A sweep's entries carry its run,
-- those of postings carry none.
-- $1 timestamptz: entries recorded later …; $2 timestamptz: … and up to this instant
SELECT source_type AS source, run IS NOT NULL AS by_sweep, count(*) FILTER (WHERE type = 'expire') AS batches,
       pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE type = 'expire'), 0)) AS points,
       pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE type = 'restore'), 0)) AS restored
FROM pointsd.entries
WHERE recorded_at > $1 AND recorded_at <= $2 AND type IN ('expire', 'restore')
GROUP BY 1, 2
ORDER BY 1, 2
