-- What the last report on expiry said would expire.
SELECT ends, slot, as_of, points, recharged, spent, expired FROM pointsd.expiry_forecast ORDER BY ends
