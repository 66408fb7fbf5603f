-- Screens these users: reads their entries after the checkpoint and all their batches, moves the checkpoints of sound users
-- to their last entry, and returns the suspects. See screen_range.sql.
-- $1 uuid[]: the users
-- $2 uuid[]: the users among them with open findings; these are suspects in any case; $3 smallint: the bucket of all
WITH judged AS (
    SELECT u.user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed, a.total_expired,
           a.total_refunded, a.total_voided, a.total_adjusted, a.total_opening, a.expired_until, a.user_id IS NOT NULL AS has_account, e.entries, b.batches,
           coalesce(c.entries_print, 0) + e.print AS entries_print, b.print AS batches_print, b.drawn AS drawn_print,
           c.user_id IS NULL OR c.seq <> a.last_seq AS changed,
           coalesce(
               e.entries + coalesce(c.seq, 0) = a.last_seq AND b.batches = a.last_batch AND b.last = a.last_batch
               AND b.remaining = greatest(0, a.balance)
               AND e.proof = pointsd.account_proof(ROW(a.*)::pointsd.accounts)
                   - CASE WHEN c.user_id IS NULL THEN pointsd.chain_print(0, 0) ELSE pointsd.checkpoint_proof(ROW(c.*)::pointsd.checkpoints) END
                   + b.drawn - coalesce(c.drawn_print, 0) + b.opened
               AND b.proved_print = coalesce(c.batches_print, 0)
               AND d.out_of_time IS NOT TRUE
               AND (e.last_opening > e.first_other) IS NOT TRUE AND e.opening_misplaced IS NOT TRUE
               AND (e.last_opening IS NULL OR c.user_id IS NULL
                    OR (c.total_recharged, c.total_consumed, c.total_refunded, c.total_voided) = (0, 0, 0, 0))
               AND a.expired_until IS NOT DISTINCT FROM greatest(c.expired_until, d.expired_until)
               AND h.open = a.open_holds AND h.sound IS NOT FALSE AND k.sound IS NOT FALSE
               AND NOT EXISTS (
                   SELECT
                   FROM (SELECT refers_to, type, source_id, sum(amount) AS points, sum(paid) AS paid,
                         CASE WHEN min(currency) = max(currency) THEN min(currency) WHEN count(currency) > 0 THEN '' END AS currency
                         FROM pointsd.entries
                         WHERE bucket = $3::smallint AND user_id = u.user_id AND refers_to IS NOT NULL
                         GROUP BY refers_to, type, source_id) AS r
                   LEFT JOIN pointsd.entries AS of ON of.bucket = $3::smallint AND of.user_id = u.user_id AND of.seq = r.refers_to
                   LEFT JOIN pointsd.batches AS own ON own.bucket = $3::smallint AND own.user_id = u.user_id AND own.batch = of.batch
                   WHERE NOT pointsd.is_taken_back(ROW(of.*)::pointsd.entries, r.type, r.source_id, r.points, own.expired, r.paid, r.currency))
               AND NOT EXISTS (
                   SELECT FROM pointsd.entries AS r
                   WHERE r.bucket = $3::smallint AND r.user_id = u.user_id AND r.refers_to IS NOT NULL AND r.type = 'refund'
                     AND r.seq > coalesce(c.seq, 0) AND NOT pointsd.refund_is_sound(ROW(r.*)::pointsd.entries))
               AND NOT u.user_id = ANY ($2::uuid[]),
               false) AS sound
    FROM unnest($1::uuid[]) AS u (user_id)
    LEFT JOIN pointsd.accounts AS a ON a.bucket = $3::smallint AND a.user_id = u.user_id
    LEFT JOIN pointsd.checkpoints AS c ON c.bucket = $3::smallint AND c.user_id = u.user_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS entries, coalesce(sum(pointsd.entry_print(ROW(n.*)::pointsd.entries)), 0) AS print,
               coalesce(sum(pointsd.entry_proof(ROW(n.*)::pointsd.entries)), 0) AS proof,
               max(n.seq) FILTER (WHERE n.type = 'opening') AS last_opening,
               min(n.seq) FILTER (WHERE n.type NOT IN ('opening', 'expire', 'adjust')) AS first_other,
               bool_or(CASE WHEN n.balance_after < n.balance_before THEN n.seq <> 1 ELSE n.balance_before < 0 END)
                   FILTER (WHERE n.type = 'opening') AS opening_misplaced
        FROM pointsd.entries AS n
        WHERE n.bucket = $3::smallint AND n.user_id = u.user_id AND n.seq > coalesce(c.seq, -9223372036854775808)) AS e
    CROSS JOIN LATERAL (
        SELECT count(*) AS batches, coalesce(max(o.batch), 0) AS last, coalesce(sum(o.remaining), 0) AS remaining,
               coalesce(sum(pointsd.batch_print(ROW(o.*)::pointsd.batches)), 0) AS print, coalesce(sum(pointsd.batch_proof(ROW(o.*)::pointsd.batches)), 0) AS drawn,
               coalesce(sum(pointsd.batch_print(ROW(o.*)::pointsd.batches)) FILTER (WHERE o.batch <= c.batches), 0) AS proved_print,
               coalesce(sum(CASE WHEN o.batch <= c.batches THEN 0
                                 ELSE pointsd.opening_print(o.batch, o.amount, o.source, o.opened_at, o.paid, o.currency) END), 0) AS opened
        FROM pointsd.batches AS o
        WHERE o.bucket = $3::smallint AND o.user_id = u.user_id) AS b
    CROSS JOIN LATERAL (
        SELECT bool_or(NOT pointsd.drew_in_time(n.type, n.at, n.source_type, ROW(of.*)::pointsd.batches) OR n.type = 'restore' AND NOT pointsd.restore_is_sound(ROW(n.*)::pointsd.entries))
                   AS out_of_time,
               max(of.expires_at) FILTER (WHERE n.type = 'expire') AS expired_until
        FROM pointsd.entries AS n, unnest(n.allocated_batches) AS t (batch), pointsd.batches AS of
        WHERE n.bucket = $3::smallint AND n.user_id = u.user_id AND n.seq > coalesce(c.seq, 0) AND of.bucket = $3::smallint AND of.user_id = u.user_id
          AND of.batch = t.batch) AS d
    CROSS JOIN LATERAL (
        SELECT count(*) AS open, bool_and(pointsd.hold_is_sound(ROW(s.*)::pointsd.holds, ROW(n.*)::pointsd.entries)) AS sound
        FROM pointsd.holds AS s
        LEFT JOIN pointsd.entries AS n ON n.bucket = $3::smallint AND n.key = s.key AND n.type = 'consume'
        WHERE s.bucket = $3::smallint AND s.user_id = u.user_id AND s.state = 'open') AS h
    -- Holds that were captured or released, as far as a later consume has their key.
    CROSS JOIN LATERAL (
        SELECT bool_and(pointsd.hold_is_sound(ROW(s.*)::pointsd.holds, ROW(n.*)::pointsd.entries)) AS sound
        FROM pointsd.entries AS n JOIN pointsd.holds AS s ON s.bucket = $3::smallint AND s.key = n.key
        WHERE n.bucket = $3::smallint AND n.user_id = u.user_id AND n.seq > coalesce(c.seq, 0) AND n.type = 'consume') AS k
), kept AS (
    INSERT INTO pointsd.checkpoints (user_id, seq, batches, balance, total_recharged, total_consumed, total_expired,
                                     total_refunded, total_voided, total_adjusted, total_opening, expired_until, entries_print,
                                     batches_print, drawn_print, bucket)
    SELECT user_id, last_seq, last_batch, balance, total_recharged, total_consumed, total_expired, total_refunded,
           total_voided, total_adjusted, total_opening, expired_until, entries_print, batches_print, drawn_print, $3::smallint
    FROM judged WHERE sound AND changed
    ON CONFLICT (bucket, user_id) DO UPDATE
    SET seq = excluded.seq, batches = excluded.batches, balance = excluded.balance,
        total_recharged = excluded.total_recharged, total_consumed = excluded.total_consumed,
        total_expired = excluded.total_expired, total_refunded = excluded.total_refunded,
        total_voided = excluded.total_voided, total_adjusted = excluded.total_adjusted,
        total_opening = excluded.total_opening,
        expired_until = excluded.expired_until,
        entries_print = excluded.entries_print, batches_print = excluded.batches_print,
        drawn_print = excluded.drawn_print
)
SELECT NULL::bigint AS closed, count(*) FILTER (WHERE has_account) AS accounts, coalesce(sum(batches), 0)::bigint AS batches,
       coalesce(sum(entries), 0)::bigint AS entries,
       coalesce(array_agg(user_id) FILTER (WHERE NOT sound), '{}') AS suspects
FROM judged
