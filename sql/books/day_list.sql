-- All business days that were closed.
SELECT day, source, ended, opening, recharged, settled, consumed, expired, adjusted, closing
FROM pointsd.days
ORDER BY day, source
