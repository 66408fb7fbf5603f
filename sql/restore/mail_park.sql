-- Parks every mail that waits; returns the document of each.
-- $1 text: the reason
UPDATE pointsd.outbox SET state = 'parked', held_until = NULL, answer = $1
WHERE state IN ('waiting', 'sending')
RETURNING document
