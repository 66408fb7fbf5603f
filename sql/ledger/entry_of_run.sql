-- What a run of the sweep wrote, by source.
-- $1 bigint: the run
SELECT source_type, count(*) AS batches, pointsd.clamp_bigint(sum(amount)) AS points
FROM pointsd.entries
WHERE bucket = ANY (pointsd.all_buckets()) AND run = $1 AND type = 'expire'
GROUP BY source_type
