-- Loads the money of closed business days.
-- $1 date, $2 date: the first and the last day, or null
SELECT day, currency, source, opening, opened, sold, used, expired, returned, corrected, closing
FROM pointsd.day_money
WHERE day BETWEEN coalesce($1::date, '-infinity') AND coalesce($2::date, 'infinity')
ORDER BY day, currency, source
