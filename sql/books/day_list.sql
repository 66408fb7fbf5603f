-- Loads all closed business days.
SELECT day, source, ended, opening, recharged, settled, consumed, expired, adjusted, closing
FROM pointsd.days
ORDER BY day, source
