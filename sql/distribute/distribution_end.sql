-- Puts the new number of buckets in force, once all accounts have moved.
SELECT pointsd.end_distribution()
