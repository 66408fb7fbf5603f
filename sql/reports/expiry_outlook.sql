-- What open batches hold, by source and by when it expires. It reads every open batch, since all of them are told.
-- $1 timestamptz[]: the borders, in order; part 0 expires at the first border or before, part n at the nth to the next
SELECT source, width_bucket(expires_at - interval '1 microsecond', $1::timestamptz[]) AS part,
       count(*) AS batches, sum(remaining)::bigint AS points
FROM pointsd.batches
WHERE open
GROUP BY 1, 2
