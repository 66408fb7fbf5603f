-- An account's rows as they are, beside the rows that its entries imply. Amounts are sums of the entries; a sum too large
-- for its column is not clamped.
-- $1 uuid: the user
WITH entry AS MATERIALIZED (
    SELECT seq, type, amount, balance_before, balance_after, source_type, at, batch, allocated_batches, allocated_points, paid, currency
    FROM pointsd.entries
    WHERE bucket = pointsd.bucket_of($1) AND user_id = $1
), opened AS (
    SELECT row_number() OVER (ORDER BY seq) AS batch, batch AS named, amount, source_type, at, paid, currency
    FROM entry
    WHERE pointsd.opens_batch(type, balance_after > balance_before)
), taken AS (
    SELECT t.batch, sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END) AS points,
           coalesce(sum(CASE e.type WHEN 'restore' THEN -t.points::numeric ELSE t.points END)
                        FILTER (WHERE e.type IN ('expire', 'restore')), 0) AS expired
    FROM entry AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches, e.allocated_points) AS t (batch, points)
    GROUP BY t.batch
)
SELECT (SELECT jsonb_build_object(
                   'balance', a.balance, 'total_recharged', a.total_recharged, 'total_consumed', a.total_consumed,
                   'total_expired', a.total_expired, 'total_refunded', a.total_refunded, 'total_voided', a.total_voided,
                   'total_adjusted', a.total_adjusted, 'total_opening', a.total_opening, 'last_seq', a.last_seq, 'last_batch', a.last_batch,
                   'expired_until', (a.expired_until AT TIME ZONE 'UTC')::text || 'Z', 'open_holds', a.open_holds)
        FROM pointsd.accounts AS a
        WHERE a.bucket = pointsd.bucket_of($1) AND a.user_id = $1) AS account,
       (SELECT jsonb_build_object(
                   'balance', coalesce((SELECT balance_after FROM entry ORDER BY seq DESC LIMIT 1), 0),
                   'total_recharged', coalesce(sum(amount) FILTER (WHERE type = 'recharge'), 0),
                   'total_consumed', coalesce(sum(amount) FILTER (WHERE type = 'consume'), 0),
                   'total_expired', coalesce(sum(CASE type WHEN 'restore' THEN -amount::numeric ELSE amount END)
                                                 FILTER (WHERE type IN ('expire', 'restore')), 0),
                   'total_refunded', coalesce(sum(amount) FILTER (WHERE type = 'refund'), 0),
                   'total_voided', coalesce(sum(amount) FILTER (WHERE type = 'void'), 0),
                   'total_adjusted',
                   coalesce(sum(balance_after::numeric - balance_before) FILTER (WHERE type = 'adjust'), 0),
                   'total_opening',
                   coalesce(sum(balance_after::numeric - balance_before) FILTER (WHERE type = 'opening'), 0),
                   'last_seq', coalesce(max(seq), 0),
                   'last_batch', count(*) FILTER (WHERE pointsd.opens_batch(type, balance_after > balance_before)),
                   'expired_until', (
                       SELECT (max(b.expires_at) AT TIME ZONE 'UTC')::text || 'Z'
                       FROM entry AS e, unnest(e.allocated_batches) AS t (batch), pointsd.batches AS b
                       WHERE e.type = 'expire' AND b.bucket = pointsd.bucket_of($1) AND b.user_id = $1 AND b.batch = t.batch),
                   'open_holds', (SELECT count(*) FROM pointsd.holds AS h
                                  WHERE h.bucket = pointsd.bucket_of($1) AND h.user_id = $1 AND h.state = 'open'))
        FROM entry) AS account_of_history,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'batch', b.batch,
                   'row', jsonb_build_object(
                       'amount', b.amount, 'remaining', b.remaining, 'expired', b.expired, 'open', b.open, 'source', b.source,
                       'opened_at', (b.opened_at AT TIME ZONE 'UTC')::text || 'Z', 'paid', b.paid, 'currency', b.currency),
                   -- Null if no entry opened the batch, or if its end is not after its opening.
                   'of_history', CASE WHEN o.named = o.batch AND b.expires_at > o.at AND isfinite(b.expires_at) THEN jsonb_build_object(
                       'amount', o.amount, 'remaining', o.amount - coalesce(t.points, 0), 'expired', coalesce(t.expired, 0),
                       'open', o.amount > coalesce(t.points, 0), 'source', o.source_type,
                       'opened_at', (o.at AT TIME ZONE 'UTC')::text || 'Z', 'paid', o.paid, 'currency', o.currency) END)
                   ORDER BY b.batch), '[]')
        FROM pointsd.batches AS b
        LEFT JOIN opened AS o ON o.batch = b.batch
        LEFT JOIN taken AS t ON t.batch = b.batch
        WHERE b.bucket = pointsd.bucket_of($1) AND b.user_id = $1) AS batches
