-- How many points of consumes were refunded, and of recharges voided.
-- $1 uuid[], $2 bigint[]: user and number of the entry, pairwise; $3 smallint: the bucket of the accounts
SELECT named.user_id, named.seq, sum(e.amount)::bigint AS points
FROM (SELECT DISTINCT user_id, seq FROM unnest($1::uuid[], $2::bigint[]) AS n (user_id, seq)) AS named
JOIN pointsd.entries AS e ON e.bucket = $3::smallint AND e.user_id = named.user_id AND e.refers_to = named.seq
GROUP BY named.user_id, named.seq
