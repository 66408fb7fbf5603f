-- Lists the entries recorded in a period whose effective time lies before it: the first ones, postings before expirations.
-- $1 timestamptz, $2 timestamptz: the begin and the end of the period; $3 bigint: how many
SELECT user_id, seq, recorded_at, at, type, source_type AS source, balance_after - balance_before AS points,
       correction ->> 'by' AS by, correction ->> 'reason' AS reason, description, source_id AS reference
FROM pointsd.entries
WHERE recorded_at >= $1 AND recorded_at < $2 AND at < $1 AND type <> 'opening'
ORDER BY type = 'expire', recorded_at, user_id, seq
LIMIT $3
