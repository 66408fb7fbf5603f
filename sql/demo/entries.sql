-- What moved the points: how many entries of each kind, and their points.
-- $1 timestamptz: the slot; an expiry before it was found by a posting, one at it by the sweep
SELECT type, at >= $1 AS tonight, count(*), sum(amount)::bigint FROM pointsd.entries GROUP BY 1, 2
