-- Forgets an earlier plan. Rows without indexes are copied faster.
DELETE FROM pointsd.adoption;
TRUNCATE pointsd.adopted_accounts, pointsd.adopted_batches, pointsd.adopted_transactions, pointsd.adopted_positions, pointsd.adopted_openings;
DROP INDEX IF EXISTS pointsd.adopted_accounts_by_user, pointsd.adopted_batches_by_user, pointsd.adopted_transactions_by_id,
    pointsd.adopted_transactions_by_user;
