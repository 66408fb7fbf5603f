-- $1: order; $2: its outcome.
UPDATE pointsd.audit SET outcome = $2 WHERE id = $1
