-- The nodes over which the ledger is spread, each with its shards of the accounts and the buckets in them; nothing on a single server.
SELECT node, shards, buckets, active FROM pointsd.nodes()
