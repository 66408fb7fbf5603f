-- The number of buckets to which the accounts are moving. No row: they are not.
SELECT buckets FROM pointsd.distribution
