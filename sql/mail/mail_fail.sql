-- Records a failed attempt: the mail waits for the next one, or is parked. Does nothing if another daemon has claimed it since.
-- $1 bigint: the mail; $2 integer: the attempt that failed; $3 boolean: whether it is parked; $4 timestamptz: when the next
-- attempt is due; $5 text: the reason
UPDATE pointsd.outbox
SET state = CASE WHEN $3 THEN 'parked' ELSE 'waiting' END, due = $4, held_until = NULL, answer = coalesce($5, answer)
WHERE mail = $1 AND attempts = $2 AND state = 'sending'
