-- Every user of the ledger, also those whose account row is missing. The cursor holds the list on the server.
DECLARE users NO SCROLL CURSOR WITH HOLD FOR
SELECT user_id FROM pointsd.accounts
UNION
SELECT user_id FROM pointsd.batches
UNION
SELECT user_id FROM pointsd.entries
UNION
SELECT user_id FROM pointsd.holds
