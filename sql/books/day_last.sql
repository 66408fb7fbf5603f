-- The last business day that was closed.
SELECT day, source, ended, opening, recharged, settled, consumed, expired, adjusted, closing
FROM pointsd.days
WHERE day = (SELECT max(day) FROM pointsd.days)
ORDER BY source
