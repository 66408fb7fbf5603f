-- Which transactions the plan has read already.
-- $1 bigint[]: their ids
SELECT id FROM pointsd.adopted_transactions WHERE id = ANY ($1::bigint[])
