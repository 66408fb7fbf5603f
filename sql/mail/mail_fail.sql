-- A mail that was not taken: it waits for another try, or is parked. Nothing where somebody else has it by now.
-- $1 bigint: the mail; $2 integer: the attempt that failed; $3 boolean: whether it is parked; $4 timestamptz: not tried
-- before; $5 text: why
UPDATE pointsd.outbox
SET state = CASE WHEN $3 THEN 'parked' ELSE 'waiting' END, due = $4, held_until = NULL, answer = coalesce($5, answer)
WHERE mail = $1 AND attempts = $2 AND state = 'sending'
