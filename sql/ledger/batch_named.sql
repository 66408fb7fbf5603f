-- Batches by their numbers: those that a refunded consume drew from, and that of a voided recharge.
-- $1 uuid[], $2 integer[]: user and batch, pairwise; $3 smallint: the bucket of the accounts
SELECT b.user_id, b.batch, b.amount, b.remaining, b.expired, b.source, b.opened_at, b.expires_at, b.paid, b.currency
FROM unnest($1::uuid[], $2::integer[]) AS named (user_id, batch)
JOIN pointsd.batches AS b ON b.bucket = $3::smallint AND b.user_id = named.user_id AND b.batch = named.batch
