-- The buckets that the coordinator of a cluster cannot reach now, each with its node. Nothing on a single server.
SELECT bucket, node FROM pointsd.buckets_away()
