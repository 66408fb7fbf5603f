-- $1: orders before this instant; $2: how many at most. They were written in the order of time.
DELETE FROM pointsd.audit
WHERE at < $1 AND id = ANY (ARRAY(SELECT id FROM pointsd.audit ORDER BY id LIMIT $2))
