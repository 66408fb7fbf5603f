-- $1: order; $2: its outcome. The daemon may not change rows, so another one takes the place of the first.
WITH begun AS (DELETE FROM pointsd.audit WHERE id = $1 RETURNING at, token, by, action, subject)
INSERT INTO pointsd.audit (at, token, by, action, subject, outcome) SELECT at, token, by, action, subject, $2 FROM begun
