-- Lists the corrections, refunds and voids recorded in a period, one by one.
-- $1 timestamptz, $2 timestamptz: the begin and the end of the period
SELECT user_id, seq, recorded_at, at, type, source_type AS source, balance_after - balance_before AS points,
       correction ->> 'by' AS by, correction ->> 'reason' AS reason, description, source_id AS reference
FROM pointsd.entries
WHERE recorded_at >= $1 AND recorded_at < $2 AND type IN ('adjust', 'refund', 'void')
ORDER BY recorded_at, user_id, seq
