-- The transactions that have written entries and not ended yet, prepared ones among them. A prepared transaction has no process.
SELECT transaction, pid FROM pointsd.writers()
