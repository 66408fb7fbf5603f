-- Sums the movements recorded in a span of time, by day and by source of the batches. Source '' is the arrears of all accounts.
-- Two passes over the span, by entry and by allocation: both are aggregates whose memory does not grow with the entries. The
-- index entries_by_recording finds the span. A batch that an entry names and that does not exist counts as ''.
-- $1 timestamptz, $2 timestamptz: from, and up to, without it; null: no limit
-- $3 timestamptz[]: the begins of the second day, the third, and so on; the first day is number 0
WITH by_entry AS (
    SELECT width_bucket(recorded_at, $3::timestamptz[]) AS nth, type,
           CASE WHEN type IN ('recharge', 'expire') THEN source_type ELSE '' END AS source,
           sum(amount) AS amount, sum(balance_after::numeric - balance_before) FILTER (WHERE type = 'adjust') AS moved,
           -- Few recharges settle anything.
           sum(CASE WHEN type = 'recharge' AND cardinality(allocated_points) > 0
                    THEN (SELECT sum(points) FROM unnest(allocated_points) AS points) END) AS settled
    FROM pointsd.entries
    WHERE recorded_at >= coalesce($1::timestamptz, '-infinity') AND recorded_at < coalesce($2::timestamptz, 'infinity')
    GROUP BY 1, 2, 3
), by_allocation AS (
    SELECT width_bucket(e.recorded_at, $3::timestamptz[]) AS nth, e.type, coalesce(b.source, '') AS source,
           sum(a.points) AS points
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS a (batch, points)
    LEFT JOIN pointsd.batches AS b ON b.bucket = e.bucket AND b.user_id = e.user_id AND b.batch = a.batch
    WHERE e.recorded_at >= coalesce($1::timestamptz, '-infinity') AND e.recorded_at < coalesce($2::timestamptz, 'infinity')
      AND e.type IN ('consume', 'adjust') -- an adjust entry of nothing may move points from one source to another
    GROUP BY 1, 2, 3
), parts (nth, source, recharged, settled, consumed, expired, adjusted) AS (
    SELECT nth, source, amount, coalesce(settled, 0), 0, 0, 0 FROM by_entry WHERE type = 'recharge'
    UNION ALL -- a settled part reduces the arrears
    SELECT nth, '', 0, -coalesce(settled, 0), 0, 0, 0 FROM by_entry WHERE type = 'recharge'
    UNION ALL
    SELECT nth, source, 0, 0, 0, amount, 0 FROM by_entry WHERE type = 'expire'
    UNION ALL -- points of a consume that no batch covers are arrears
    SELECT nth, '', 0, 0, amount, 0, 0 FROM by_entry WHERE type = 'consume'
    UNION ALL
    SELECT nth, of, 0, 0, sign * points, 0, 0
    FROM by_allocation, LATERAL (VALUES (source, 1), ('', -1)) AS side (of, sign) WHERE type = 'consume'
    UNION ALL -- an adjust entry's allocations were taken out of batches or, below zero, put back; the rest are arrears
    SELECT nth, '', 0, 0, 0, 0, moved FROM by_entry WHERE type = 'adjust'
    UNION ALL
    SELECT nth, of, 0, 0, 0, 0, sign * points
    FROM by_allocation, LATERAL (VALUES (source, -1), ('', 1)) AS side (of, sign) WHERE type = 'adjust'
)
SELECT nth, source, pointsd.clamp_bigint(sum(recharged)) AS recharged, pointsd.clamp_bigint(sum(settled)) AS settled,
       pointsd.clamp_bigint(sum(consumed)) AS consumed, pointsd.clamp_bigint(sum(expired)) AS expired,
       pointsd.clamp_bigint(sum(adjusted)) AS adjusted
FROM parts
GROUP BY nth, source
ORDER BY nth, source
