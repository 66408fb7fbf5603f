-- Opens business days again that were closed while the server's clock was ahead. Some of them may have ended since, but not
-- all of their entries were there.
DELETE FROM pointsd.days
WHERE day >= (SELECT min(day) FROM pointsd.days WHERE closed_at > clock_timestamp() OR ended > clock_timestamp())
