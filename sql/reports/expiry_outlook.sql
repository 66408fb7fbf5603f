-- What open batches hold, by source and by the borders between which they expire. It reads every open batch, since the report
-- shows all of them.
-- $1 timestamptz[]: the borders, in order: part 0 expires by the first border, part n after the nth and by the next
SELECT source, width_bucket(expires_at - interval '1 microsecond', $1::timestamptz[]) AS part,
       count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points
FROM pointsd.batches
WHERE open
GROUP BY 1, 2
