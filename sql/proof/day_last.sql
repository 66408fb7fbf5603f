-- The last business day that was closed.
SELECT day, source, ended, opening, recharged, settled, consumed, expired, adjusted, closing
FROM reports.days
WHERE day = (SELECT max(day) FROM reports.days)
ORDER BY source
