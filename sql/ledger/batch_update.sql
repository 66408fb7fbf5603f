-- Batches from which a group drew. Their accounts are locked.
-- $1 uuid[], $2 integer[], $3 bigint[]: user, batch and what remains, pairwise; $4 smallint: the bucket of the
-- accounts
UPDATE pointsd.batches AS b
SET remaining = c.remaining, open = c.remaining > 0
FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS c (user_id, batch, remaining)
WHERE b.bucket = $4::smallint AND b.user_id = c.user_id AND b.batch = c.batch
