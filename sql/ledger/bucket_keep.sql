-- Keeps a bucket of a spread ledger on its node until the transaction ends. It comes before the locks of accounts: Citus moves rows, but
-- not their locks. Fails on a node that the bucket has left.
-- $1 smallint
SELECT pointsd.keep_bucket($1::smallint)
