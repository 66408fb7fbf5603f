-- An account's rows as they are, beside the rows that its entries imply. Amounts are sums of the entries; a sum too large
-- for its column is not clamped.
-- $1 uuid: the user
WITH entry AS MATERIALIZED (
    SELECT seq, type, amount, balance_before, balance_after, source_type, at, batch, allocated_batches, allocated_points
    FROM pointsd.entries
    WHERE bucket = 0 AND user_id = $1
), opened AS (
    SELECT row_number() OVER (ORDER BY seq) AS batch, batch AS named, amount, source_type, at
    FROM entry
    WHERE type = 'recharge'
), taken AS (
    SELECT t.batch, sum(t.points) AS points
    FROM entry AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    GROUP BY t.batch
)
SELECT (SELECT jsonb_build_object(
                   'balance', a.balance, 'total_recharged', a.total_recharged, 'total_consumed', a.total_consumed,
                   'total_expired', a.total_expired, 'total_adjusted', a.total_adjusted, 'last_seq', a.last_seq,
                   'last_batch', a.last_batch)
        FROM pointsd.accounts AS a
        WHERE a.bucket = 0 AND a.user_id = $1) AS account,
       (SELECT jsonb_build_object(
                   'balance', coalesce((SELECT balance_after FROM entry ORDER BY seq DESC LIMIT 1), 0),
                   'total_recharged', coalesce(sum(amount) FILTER (WHERE type = 'recharge'), 0),
                   'total_consumed', coalesce(sum(amount) FILTER (WHERE type = 'consume'), 0),
                   'total_expired', coalesce(sum(amount) FILTER (WHERE type = 'expire'), 0),
                   'total_adjusted',
                   coalesce(sum(balance_after::numeric - balance_before) FILTER (WHERE type = 'adjust'), 0),
                   'last_seq', coalesce(max(seq), 0),
                   'last_batch', count(*) FILTER (WHERE type = 'recharge'))
        FROM entry) AS account_of_history,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'batch', b.batch,
                   'row', jsonb_build_object(
                       'amount', b.amount, 'remaining', b.remaining, 'open', b.open, 'source', b.source,
                       'opened_at', (b.opened_at AT TIME ZONE 'UTC')::text || 'Z'),
                   -- Null if no recharge opened the batch, or if it would expire before its opening.
                   'of_history', CASE WHEN o.named = o.batch AND b.expires_at > o.at THEN jsonb_build_object(
                       'amount', o.amount, 'remaining', o.amount - coalesce(t.points, 0),
                       'open', o.amount > coalesce(t.points, 0), 'source', o.source_type,
                       'opened_at', (o.at AT TIME ZONE 'UTC')::text || 'Z') END)
                   ORDER BY b.batch), '[]')
        FROM pointsd.batches AS b
        LEFT JOIN opened AS o ON o.batch = b.batch
        LEFT JOIN taken AS t ON t.batch = b.batch
        WHERE b.bucket = 0 AND b.user_id = $1) AS batches
