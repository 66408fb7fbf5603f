-- A new forecast takes the place of the last.
DELETE FROM reports.forecast
