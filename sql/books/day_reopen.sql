-- Opens business days again that were closed while the server's clock was ahead. Some of them may have ended since, but not
-- all of their entries were there. A trigger deletes their money.
WITH ahead AS (
    SELECT min(day) AS day FROM pointsd.days WHERE closed_at > clock_timestamp() OR ended > clock_timestamp()
)
DELETE FROM pointsd.days AS d USING ahead WHERE d.day >= ahead.day
