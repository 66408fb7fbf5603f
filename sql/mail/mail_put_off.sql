-- Lets everything that is due wait: the server cannot be worked with, whoever the mail is for. Returns of which documents
-- they are.
-- $1 timestamptz: now, as the caller sees it; $2 timestamptz: not tried before
UPDATE pointsd.outbox SET due = $2 WHERE state = 'waiting' AND due <= $1 RETURNING document
