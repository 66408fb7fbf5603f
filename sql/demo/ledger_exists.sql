-- Whether the database has a ledger at all.
SELECT to_regclass('pointsd.accounts') IS NOT NULL
