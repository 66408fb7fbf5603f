-- All business days that were closed.
SELECT day, source, ended, opening, recharged, settled, consumed, expired, adjusted, closing
FROM reports.days
ORDER BY day, source
