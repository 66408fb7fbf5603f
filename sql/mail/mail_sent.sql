-- Records that the server took a mail, even if another daemon has claimed it since: a sent mail cannot be called back.
-- $1 bigint: the mail; $2 text: the server's answer
UPDATE pointsd.outbox
SET state = 'sent', sent = clock_timestamp(), held_until = NULL, answer = $2
WHERE mail = $1 AND state <> 'sent'
