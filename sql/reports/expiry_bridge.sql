-- Bridges what a report tells as expired to a business day: what of it was recorded before and after that day, what was recorded on the
-- day before the report begins, and the whole of the day.
-- $1 timestamptz, $2 timestamptz: the report has the entries recorded later than the first, and up to the second
-- $3 timestamptz, $4 timestamptz: the begin of the business day, and its end, which is not later than the report
SELECT pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE in_report AND recorded_at < $3), 0)) AS before_day,
       pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE in_report AND recorded_at >= $4), 0)) AS after_day,
       pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE in_day AND NOT in_report), 0)) AS before_report,
       pointsd.clamp_bigint(coalesce(sum(amount) FILTER (WHERE in_day), 0)) AS of_day
FROM (
    SELECT amount, recorded_at, recorded_at > $1 AND recorded_at <= $2 AS in_report,
           recorded_at >= $3 AND recorded_at < $4 AS in_day
    FROM pointsd.entries
    WHERE type = 'expire' AND recorded_at >= least($1, $3) AND recorded_at <= $2
) AS e
