-- What is left in open batches, by source, by age and by time to expiry.
-- $1 timestamptz[]: opened before the first instant, before the second …; $2 timestamptz[]: expires before the first
-- instant, before the second …: the numbers of age and expiry count from 0
SELECT source, width_bucket(opened_at, $1::timestamptz[]) AS age, width_bucket(expires_at, $2::timestamptz[]) AS expiry,
       count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points
FROM pointsd.batches
WHERE open
GROUP BY source, age, expiry
ORDER BY source, age, expiry
