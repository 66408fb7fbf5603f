-- Sums what became of all batches opened before an instant, by month of issue and source. It reads every batch.
-- $1 timestamptz: the instant; $2 text: the zone of the business
SELECT date_trunc('month', opened_at AT TIME ZONE $2)::date AS month, source, pointsd.clamp_bigint(sum(amount)) AS issued,
       pointsd.clamp_bigint(sum(expired)) AS expired, pointsd.clamp_bigint(sum(remaining)) AS open
FROM pointsd.batches
WHERE opened_at < $1
GROUP BY 1, 2
ORDER BY 1, 2
