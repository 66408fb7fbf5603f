-- Loads all closed business days.
SELECT day, source, ended, opening, opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted, closing
FROM pointsd.days
ORDER BY day, source
