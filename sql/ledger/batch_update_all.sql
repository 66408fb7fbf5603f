-- Batches of which points expired or were restored. Their accounts are locked.
-- $1 uuid[], $2 integer[], $3 bigint[], $4 bigint[]: user, batch, what remains and what has expired, pairwise;
-- $5 smallint: the bucket of the accounts
UPDATE pointsd.batches AS b
SET remaining = c.remaining, expired = c.expired, open = c.remaining > 0
FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[]) AS c (user_id, batch, remaining, expired)
WHERE b.bucket = $5::smallint AND b.user_id = c.user_id AND b.batch = c.batch
