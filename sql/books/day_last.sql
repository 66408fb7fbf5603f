-- Loads the last closed business day.
SELECT day, source, ended, opening, opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted, closing
FROM pointsd.days
WHERE day = (SELECT max(day) FROM pointsd.days)
ORDER BY source
