-- How many requests are open, refused or parked. Posted ones are not counted: that would read the whole history.
SELECT state, count(*) FROM pointsd.requests WHERE state IN ('pending', 'waiting', 'refused', 'parked') GROUP BY state
