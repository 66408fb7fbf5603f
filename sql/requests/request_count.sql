-- How many requests there are in each state.
SELECT state, count(*) FROM jobs.requests GROUP BY state
