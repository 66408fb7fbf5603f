-- The last business day whose roll-forward a report on reconciliation has shown.
SELECT day FROM pointsd.days_reported
