-- What entries of expiry took, by source: those of a sweep, which carry its run, and those of postings that met points past
-- their time.
-- $1 timestamptz: entries recorded later
SELECT source_type AS source, run IS NOT NULL AS by_sweep, count(*) AS batches, sum(amount)::bigint AS points
FROM pointsd.entries
WHERE recorded_at > $1 AND type = 'expire'
GROUP BY 1, 2
