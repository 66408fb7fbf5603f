-- Lists the closed months and the totals that their closings kept.
SELECT month, totals
FROM (SELECT DISTINCT ON (month) month, action, totals FROM pointsd.periods ORDER BY month, event DESC) AS standing
WHERE action = 'close'
ORDER BY month
