-- $1: token; $2: its name; $3: action; $4: subject. The order is not carried out yet.
INSERT INTO pointsd.audit (token, by, action, subject, outcome) VALUES ($1, $2, $3, $4, 'not known') RETURNING id
