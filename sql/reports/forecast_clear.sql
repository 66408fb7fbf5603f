-- Deletes the last forecast: a new one takes its place.
DELETE FROM pointsd.expiry_forecast
