-- The number of buckets.
SELECT pointsd.buckets()
