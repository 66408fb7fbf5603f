-- Sums what is deferred of the prices of batches, by currency and source. A closed batch has released all of its price.
SELECT currency, source,
       pointsd.clamp_bigint(sum(paid - pointsd.price_part(paid, 0, amount - remaining, amount))) AS deferred
FROM pointsd.batches
WHERE open AND paid IS NOT NULL AND currency IS NOT NULL
GROUP BY currency, source
