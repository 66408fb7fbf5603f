-- $1: only orders before this one, or NULL; $2: how many. The newest first.
SELECT id, at, by, action, subject, outcome FROM pointsd.audit WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
