-- Where the buckets lie that another server than the coordinator holds. Nothing on a single server.
SELECT bucket, host, port FROM pointsd.bucket_nodes()
