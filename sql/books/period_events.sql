-- Lists the closings and reopenings of months, in order, without their documents. `latest` is the last event of its month.
SELECT event, month, action, at, by, reason, event = max(event) OVER (PARTITION BY month) AS latest
FROM pointsd.periods
ORDER BY event
