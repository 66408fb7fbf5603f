-- Indexes of the copies, for what is read of one account later.
CREATE INDEX adopted_accounts_by_user ON pointsd.adopted_accounts (user_id);
CREATE INDEX adopted_batches_by_user ON pointsd.adopted_batches (user_id);
CREATE UNIQUE INDEX adopted_transactions_by_id ON pointsd.adopted_transactions (id);
CREATE INDEX adopted_transactions_by_user ON pointsd.adopted_transactions (user_id, id);
ANALYZE pointsd.adopted_accounts, pointsd.adopted_batches, pointsd.adopted_transactions;
