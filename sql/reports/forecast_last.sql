-- The forecast of the last report on expiry.
SELECT ends, as_of, points FROM pointsd.expiry_forecast ORDER BY ends
