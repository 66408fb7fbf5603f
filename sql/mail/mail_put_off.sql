-- Puts off every due mail, because the server is at fault; returns their documents.
-- $1 timestamptz: now, by the caller's clock; $2 timestamptz: when the next attempt is due
UPDATE pointsd.outbox SET due = $2 WHERE state = 'waiting' AND due <= $1 RETURNING document
