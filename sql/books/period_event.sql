-- Records that a month was closed or reopened.
-- $1 date: its first day; $2 text: close or reopen; $3 text: the operator; $4 text: the reason, or null; $5 jsonb, $6 jsonb: of a
-- closing the totals and the document
INSERT INTO pointsd.periods (month, action, by, reason, totals, document)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING event, at
