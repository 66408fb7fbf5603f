-- The number of buckets, and whether they lie on several servers.
SELECT pointsd.buckets(), pointsd.is_spread()
