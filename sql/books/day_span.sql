-- Loads the closed business days of a span.
-- $1 date, $2 date: the first, null for no limit, and the last day
SELECT day, source, ended, opening, opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted, closing
FROM pointsd.days
WHERE day BETWEEN coalesce($1::date, '-infinity') AND $2
ORDER BY day, source
