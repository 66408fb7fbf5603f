-- Sums the points left in open batches, by source, age and time to expiry.
-- $1 timestamptz[]: the bounds between ages, ascending; age 0 is the oldest
-- $2 timestamptz[]: the bounds between times to expiry, ascending; expiry 0 is overdue
SELECT source, width_bucket(opened_at, $1::timestamptz[]) AS age, width_bucket(expires_at, $2::timestamptz[]) AS expiry,
       count(*) AS batches, pointsd.clamp_bigint(sum(remaining)) AS points
FROM pointsd.batches
WHERE open
GROUP BY source, age, expiry
ORDER BY source, age, expiry
