-- The last request among those that are long over: none after it has to be looked at one by one.
-- $1 timestamptz: over before this instant
SELECT max(id) FROM jobs.requests_done WHERE finished_at < $1
