-- Loads the money of closed business days, from one on.
-- $1 date: the first day, or null
SELECT day, currency, source, opening, opened, sold, used, expired, returned, corrected, closing
FROM pointsd.day_money
WHERE day >= coalesce($1::date, '-infinity')
ORDER BY day, currency, source
