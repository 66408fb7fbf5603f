-- Screens these users: reads their entries after the checkpoint and all their batches, moves the checkpoints of sound users
-- to their last entry, and returns the suspects. See screen_range.sql.
-- $1 uuid[]: the users
-- $2 uuid[]: the users among them with standing findings; these are suspects in any case
WITH judged AS (
    SELECT u.user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed, a.total_expired,
           a.total_adjusted, a.user_id IS NOT NULL AS has_account, e.entries, b.batches,
           coalesce(c.entries_print, 0) + e.print AS entries_print, b.print AS batches_print, b.drawn AS drawn_print,
           c.user_id IS NULL OR c.seq <> a.last_seq AS changed,
           coalesce(
               e.entries + coalesce(c.seq, 0) = a.last_seq AND b.batches = a.last_batch AND b.last = a.last_batch
               AND b.remaining = greatest(0, a.balance)
               AND e.proof = pointsd.account_proof(a)
                   - CASE WHEN c.user_id IS NULL THEN pointsd.chain_print(0, 0) ELSE pointsd.checkpoint_proof(c) END
                   + b.drawn - coalesce(c.drawn_print, 0) + b.opened
               AND b.proved_print = coalesce(c.batches_print, 0)
               AND NOT EXISTS (
                   SELECT FROM pointsd.entries AS d, unnest(d.allocated_batches) AS t (batch), pointsd.batches AS of
                   WHERE d.bucket = 0 AND d.user_id = u.user_id AND d.seq > coalesce(c.seq, 0) AND of.bucket = 0 AND of.user_id = u.user_id
                     AND of.batch = t.batch AND NOT pointsd.drew_in_time(d, of))
               AND NOT u.user_id = ANY ($2::uuid[]),
               false) AS sound
    FROM unnest($1::uuid[]) AS u (user_id)
    LEFT JOIN pointsd.accounts AS a ON a.bucket = 0 AND a.user_id = u.user_id
    LEFT JOIN pointsd.checkpoints AS c ON c.bucket = 0 AND c.user_id = u.user_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS entries, coalesce(sum(pointsd.entry_print(n)), 0) AS print,
               coalesce(sum(pointsd.entry_proof(n)), 0) AS proof
        FROM pointsd.entries AS n
        WHERE n.bucket = 0 AND n.user_id = u.user_id AND n.seq > coalesce(c.seq, -9223372036854775808)) AS e
    CROSS JOIN LATERAL (
        SELECT count(*) AS batches, coalesce(max(o.batch), 0) AS last, coalesce(sum(o.remaining), 0) AS remaining,
               coalesce(sum(pointsd.batch_print(o)), 0) AS print, coalesce(sum(pointsd.batch_proof(o)), 0) AS drawn,
               coalesce(sum(pointsd.batch_print(o)) FILTER (WHERE o.batch <= c.batches), 0) AS proved_print,
               coalesce(sum(CASE WHEN o.batch <= c.batches THEN 0
                                 ELSE pointsd.opening_print(o.batch, o.amount, o.source, o.opened_at) END), 0) AS opened
        FROM pointsd.batches AS o
        WHERE o.bucket = 0 AND o.user_id = u.user_id) AS b
), kept AS (
    INSERT INTO pointsd.checkpoints (user_id, seq, batches, balance, total_recharged, total_consumed, total_expired,
                                     total_adjusted, entries_print, batches_print, drawn_print)
    SELECT user_id, last_seq, last_batch, balance, total_recharged, total_consumed, total_expired, total_adjusted,
           entries_print, batches_print, drawn_print
    FROM judged WHERE sound AND changed
    ON CONFLICT (bucket, user_id) DO UPDATE
    SET seq = excluded.seq, batches = excluded.batches, balance = excluded.balance,
        total_recharged = excluded.total_recharged, total_consumed = excluded.total_consumed,
        total_expired = excluded.total_expired, total_adjusted = excluded.total_adjusted,
        entries_print = excluded.entries_print, batches_print = excluded.batches_print,
        drawn_print = excluded.drawn_print
)
SELECT count(*) FILTER (WHERE has_account) AS accounts, coalesce(sum(batches), 0)::bigint AS batches,
       coalesce(sum(entries), 0)::bigint AS entries,
       coalesce(array_agg(user_id) FILTER (WHERE NOT sound), '{}') AS suspects
FROM judged
