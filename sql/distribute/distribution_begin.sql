-- Begins to move the accounts to another number of buckets, or goes on.
-- $1 smallint: the number
SELECT pointsd.begin_distribution($1)
