-- The forecast of the last report on expiry.
SELECT ends, slot, as_of, points FROM pointsd.expiry_forecast ORDER BY ends
