-- A new forecast takes the place of the last.
DELETE FROM pointsd.expiry_forecast
