-- $1: token; $2: its name; $3: action; $4: subject; $5: outcome.
INSERT INTO pointsd.audit (token, by, action, subject, outcome) VALUES ($1, $2, $3, $4, $5)
