-- Sums the movements recorded in a span of time, by day and by source of the batches. Source '' is the arrears of all accounts.
-- Two passes over the span, by entry and by allocation: both are aggregates whose memory does not grow with the entries. The
-- index entries_by_recording finds the span. A batch that an entry names and that does not exist counts as ''.
-- $1 timestamptz, $2 timestamptz: from, and up to, without it; null: no limit
-- $3 timestamptz[]: the begins of the second day, the third, and so on; the first day is number 0
WITH by_entry AS (
    SELECT width_bucket(recorded_at, $3::timestamptz[]) AS nth, type,
           CASE WHEN type IN ('recharge', 'refund', 'expire', 'restore') OR type = 'opening' AND batch IS NOT NULL THEN source_type
                ELSE '' END AS source,
           sum(amount) AS amount, sum(balance_after::numeric - balance_before) FILTER (WHERE type IN ('adjust', 'opening')) AS moved,
           -- Few recharges and refunds settle anything.
           sum(CASE WHEN type IN ('recharge', 'refund') AND cardinality(allocated_points) > 0
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
      AND e.type IN ('consume', 'void', 'adjust') -- an adjust entry of nothing may move points from one source to another
    GROUP BY 1, 2, 3
), parts (nth, source, opened, recharged, refunded, settled, consumed, voided, expired, restored, adjusted) AS (
    SELECT nth, source, 0, CASE type WHEN 'recharge' THEN amount ELSE 0 END, CASE type WHEN 'refund' THEN amount ELSE 0 END,
           coalesce(settled, 0), 0, 0, CASE type WHEN 'expire' THEN amount ELSE 0 END,
           CASE type WHEN 'restore' THEN amount ELSE 0 END, 0
    FROM by_entry
    WHERE type IN ('recharge', 'refund', 'expire', 'restore')
    UNION ALL -- a settled part reduces the arrears
    SELECT nth, '', 0, 0, 0, -settled, 0, 0, 0, 0, 0 FROM by_entry WHERE settled IS NOT NULL
    UNION ALL -- points of a consume or a void that no batch covers are arrears
    SELECT nth, '', 0, 0, 0, 0, CASE type WHEN 'consume' THEN amount ELSE 0 END, CASE type WHEN 'void' THEN amount ELSE 0 END,
           0, 0, 0
    FROM by_entry
    WHERE type IN ('consume', 'void')
    UNION ALL
    SELECT nth, of, 0, 0, 0, 0, CASE type WHEN 'consume' THEN sign * points ELSE 0 END,
           CASE type WHEN 'void' THEN sign * points ELSE 0 END, 0, 0, 0
    FROM by_allocation, LATERAL (VALUES (source, 1), ('', -1)) AS side (of, sign)
    WHERE type IN ('consume', 'void')
    UNION ALL -- an adjust entry's allocations were taken out of batches or, below zero, put back; the rest are arrears
    SELECT nth, '', 0, 0, 0, 0, 0, 0, 0, 0, moved FROM by_entry WHERE type = 'adjust'
    UNION ALL
    SELECT nth, of, 0, 0, 0, 0, 0, 0, 0, 0, sign * points
    FROM by_allocation, LATERAL (VALUES (source, -1), ('', 1)) AS side (of, sign) WHERE type = 'adjust'
    UNION ALL -- an opening is points of its source, or a debt
    SELECT nth, source, moved, 0, 0, 0, 0, 0, 0, 0, 0 FROM by_entry WHERE type = 'opening'
)
SELECT nth, source, pointsd.clamp_bigint(sum(opened)) AS opened, pointsd.clamp_bigint(sum(recharged)) AS recharged, pointsd.clamp_bigint(sum(refunded)) AS refunded,
       pointsd.clamp_bigint(sum(settled)) AS settled, pointsd.clamp_bigint(sum(consumed)) AS consumed,
       pointsd.clamp_bigint(sum(voided)) AS voided, pointsd.clamp_bigint(sum(expired)) AS expired,
       pointsd.clamp_bigint(sum(restored)) AS restored, pointsd.clamp_bigint(sum(adjusted)) AS adjusted
FROM parts
GROUP BY nth, source
ORDER BY nth, source
