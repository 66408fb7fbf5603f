-- Every user who has anything in the ledger, also those whose account is missing; found once, kept on the server.
DECLARE everybody NO SCROLL CURSOR WITH HOLD FOR
SELECT user_id FROM pointsd.accounts
UNION
SELECT user_id FROM pointsd.batches
UNION
SELECT user_id FROM pointsd.entries
