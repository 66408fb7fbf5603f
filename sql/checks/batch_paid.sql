-- A batch has the price of the entry that opened it.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT o.user_id, b.batch, o.seq, coalesce(nullif(concat_ws(' ', o.paid, o.currency), ''), 'no price') AS expected,
       coalesce(nullif(concat_ws(' ', b.paid, b.currency), ''), 'no price') AS found, NULL::bigint AS points
FROM pointsd.entries AS o
JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = o.user_id AND b.batch = o.batch
WHERE o.bucket = $2 AND o.user_id = ANY ($1::uuid[]) AND pointsd.opens_batch(o.type, o.balance_after > o.balance_before)
  AND (o.paid IS DISTINCT FROM b.paid OR o.currency IS DISTINCT FROM b.currency)
