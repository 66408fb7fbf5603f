-- What the open batches of each source hold, and how much of it expires within 7, 30 and 90 days if nobody uses it.
-- $1 timestamptz: the instant to count from
SELECT source, sum(remaining)::bigint,
       coalesce(sum(remaining) FILTER (WHERE expires_at <= $1::timestamptz + interval '7 days'), 0)::bigint,
       coalesce(sum(remaining) FILTER (WHERE expires_at <= $1::timestamptz + interval '30 days'), 0)::bigint,
       coalesce(sum(remaining) FILTER (WHERE expires_at <= $1::timestamptz + interval '90 days'), 0)::bigint
FROM pointsd.batches
WHERE open
GROUP BY source
