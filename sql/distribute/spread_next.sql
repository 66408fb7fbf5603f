-- Takes the next step of the spread over the nodes of a cluster. Returns what it did; null where nothing is left to do.
SELECT pointsd.spread_next()
