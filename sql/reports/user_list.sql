-- Every user who has anything in the ledger, also those whose account is missing.
SELECT user_id FROM ledger.accounts
UNION
SELECT user_id FROM ledger.batches
UNION
SELECT user_id FROM ledger.entries
