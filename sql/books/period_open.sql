-- Finds the first month before a day that has closed days and is not closed itself.
-- $1 date: the day
SELECT min(m.month) AS month
FROM (SELECT DISTINCT date_trunc('month', day)::date AS month FROM pointsd.days WHERE day < $1) AS m
WHERE (SELECT p.action FROM pointsd.periods AS p WHERE p.month = m.month ORDER BY p.event DESC LIMIT 1) IS DISTINCT FROM 'close'
