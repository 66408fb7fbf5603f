-- Batches from which a group drew. Their accounts are locked.
-- $1 uuid[], $2 integer[], $3 bigint[]: user, batch and what remains, pairwise
UPDATE pointsd.batches AS b
SET remaining = c.remaining, open = c.remaining > 0
FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS c (user_id, batch, remaining)
WHERE b.bucket = 0 AND b.user_id = c.user_id AND b.batch = c.batch
