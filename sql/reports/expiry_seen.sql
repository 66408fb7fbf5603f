-- What the last report on expiry had seen of the hour before it.
SELECT source, by_sweep, batches, points FROM pointsd.expired_seen
