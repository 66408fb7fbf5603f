-- Whether the ledger is spread over the nodes of a cluster.
SELECT pointsd.is_spread()
