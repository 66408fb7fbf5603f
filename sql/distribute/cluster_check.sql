-- Refuses where the ledger cannot be spread from here.
SELECT pointsd.check_cluster()
