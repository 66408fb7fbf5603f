-- The open batches of the locked accounts. Their drawing order is the state machine's business.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT user_id, batch, amount, remaining, expired, source, opened_at, expires_at, paid, currency
FROM pointsd.batches
WHERE bucket = $2::smallint AND user_id = ANY ($1::uuid[]) AND open
