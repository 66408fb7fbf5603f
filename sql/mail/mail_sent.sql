-- A mail that was taken. This holds whoever has it by now: what left cannot be called back.
-- $1 bigint: the mail; $2 text: what the server answered
UPDATE pointsd.outbox
SET state = 'sent', sent = clock_timestamp(), held_until = NULL, answer = $2
WHERE mail = $1 AND state <> 'sent'
