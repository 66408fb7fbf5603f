-- How many requests wait, and how many somebody should look at; what is in the books is a count of the whole history.
SELECT state, count(*) FROM pointsd.requests WHERE state IN ('pending', 'waiting', 'refused', 'parked') GROUP BY state
