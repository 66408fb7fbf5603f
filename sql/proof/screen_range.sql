-- Screens all users of a range of a bucket, with or without an account: reads their entries and batches once, writes the checkpoints
-- of sound users, and returns the suspects. The sums of the entries must match the account and the batches; see the
-- functions in the migration on proofs.
-- The entries of a user with a checkpoint must be exactly the proved ones. A user with later entries is a suspect, too.
-- $1 uuid, $2 uuid: from this user on, and before that one (null: to the end)
-- $3 boolean: whether this is a first proof. It also checks each allocation against the end and source of its batch, and each
-- refund and void against its entry. Later proofs need not: the first one did so for users with a checkpoint, and users without one are suspects
-- $4 integer[]: only users in these groups (null: all)
-- $5 timestamptz: the end of the last closed business day, or null; see range_compare.sql
-- $6 smallint: the bucket
WITH entry AS (
    SELECT e.user_id, count(*) AS entries, sum(pointsd.entry_print(ROW(e.*)::pointsd.entries)) AS print, sum(pointsd.entry_proof(ROW(e.*)::pointsd.entries)) AS proof,
           -- Later proofs need not: these entries are the proved ones.
           max(e.seq) FILTER (WHERE $3::boolean AND e.type = 'opening') AS last_opening,
           min(e.seq) FILTER (WHERE $3::boolean AND e.type NOT IN ('opening', 'expire', 'adjust')) AS first_other,
           bool_or(CASE WHEN e.balance_after < e.balance_before THEN e.seq <> 1 ELSE e.balance_before < 0 END)
               FILTER (WHERE $3::boolean AND e.type = 'opening') AS opening_misplaced,
           max(CASE e.type WHEN 'consume' THEN e.at WHEN 'void' THEN e.at WHEN 'expire' THEN 'infinity' WHEN 'restore' THEN 'infinity' END)
               FILTER (WHERE $3::boolean) AS last_drawn
    FROM pointsd.entries AS e
    WHERE e.bucket = $6::smallint AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(e.user_id) = ANY ($4))
    GROUP BY e.user_id
), batch AS (
    SELECT b.user_id, count(*) AS batches, min(b.expires_at) AS first_end, max(b.batch) AS last, sum(b.remaining) AS remaining,
           sum(pointsd.batch_print(ROW(b.*)::pointsd.batches)) AS print, sum(pointsd.batch_proof(ROW(b.*)::pointsd.batches)) AS drawn,
           sum(pointsd.opening_print(b.batch, b.amount, b.source, b.opened_at, b.paid, b.currency)) AS opened
    FROM pointsd.batches AS b
    WHERE b.bucket = $6::smallint AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(b.user_id) = ANY ($4))
    GROUP BY b.user_id
), summed AS (
    SELECT user_id, e.entries, e.print AS entries_print, e.proof, e.last_opening, e.first_other, e.opening_misplaced, e.last_drawn,
           b.batches, b.first_end, b.last, b.remaining, b.print AS batches_print, b.drawn, b.opened
    FROM entry AS e FULL JOIN batch AS b USING (user_id)
), account AS (
    SELECT a.*, pointsd.account_proof(ROW(a.*)::pointsd.accounts) AS proof FROM pointsd.accounts AS a
    WHERE a.bucket = $6::smallint AND a.user_id >= $1 AND ($2::uuid IS NULL OR a.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(a.user_id) = ANY ($4))
), checkpoint AS (
    SELECT c.* FROM pointsd.checkpoints AS c
    WHERE c.bucket = $6::smallint AND c.user_id >= $1 AND ($2::uuid IS NULL OR c.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(c.user_id) = ANY ($4))
), late AS MATERIALIZED ( -- most users drew nothing after the first end of their batches: no allocation of theirs can be out of time
    SELECT user_id FROM summed WHERE last_drawn >= first_end
), allocated AS (
    SELECT e.user_id, bool_or(e.misplaced OR NOT pointsd.drew_in_time(e.type, e.at, e.source_type, ROW(b.*)::pointsd.batches)) AS out_of_time,
           max(b.expires_at) FILTER (WHERE e.type = 'expire') AS expired_until
    FROM (SELECT n.user_id, n.type, n.at, n.source_type, unnest(n.allocated_batches) AS batch,
                 CASE n.type WHEN 'restore' THEN NOT pointsd.restore_is_sound(ROW(n.*)::pointsd.entries) ELSE false END AS misplaced
          FROM pointsd.entries AS n
          WHERE n.bucket = $6::smallint AND n.user_id >= $1 AND ($2::uuid IS NULL OR n.user_id < $2)
            AND n.user_id IN (SELECT user_id FROM late)) AS e
    JOIN pointsd.batches AS b ON b.bucket = $6::smallint AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2) -- the planner does not carry a range over
      AND b.user_id = e.user_id AND b.batch = e.batch AND b.user_id IN (SELECT user_id FROM late)
    WHERE e.type IN ('expire', 'restore') OR NOT pointsd.drew_in_time(e.type, e.at, e.source_type, ROW(b.*)::pointsd.batches)
    GROUP BY e.user_id
), taken_back AS (
    SELECT DISTINCT r.user_id
    FROM (SELECT user_id, refers_to, type, source_id, sum(amount) AS points, sum(paid) AS paid,
                 CASE WHEN min(currency) = max(currency) THEN min(currency) WHEN count(currency) > 0 THEN '' END AS currency
          FROM pointsd.entries
          WHERE $3::boolean AND bucket = $6::smallint AND user_id >= $1 AND ($2::uuid IS NULL OR user_id < $2) AND refers_to IS NOT NULL
          GROUP BY user_id, refers_to, type, source_id) AS r
    LEFT JOIN pointsd.entries AS e ON e.bucket = $6::smallint AND e.user_id = r.user_id AND e.seq = r.refers_to
        AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    LEFT JOIN pointsd.batches AS b ON b.bucket = $6::smallint AND b.user_id = e.user_id AND b.batch = e.batch
        AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2)
    WHERE NOT pointsd.is_taken_back(ROW(e.*)::pointsd.entries, r.type, r.source_id, r.points, b.expired, r.paid, r.currency)
    UNION
    SELECT r.user_id
    FROM pointsd.entries AS r
    WHERE $3::boolean AND r.bucket = $6::smallint AND r.user_id >= $1 AND ($2::uuid IS NULL OR r.user_id < $2)
      AND r.refers_to IS NOT NULL AND r.type = 'refund' AND NOT pointsd.refund_is_sound(ROW(r.*)::pointsd.entries)
), held AS (
    SELECT h.user_id, count(*) FILTER (WHERE h.state = 'open') AS open, bool_and(pointsd.hold_is_sound(ROW(h.*)::pointsd.holds, ROW(e.*)::pointsd.entries)) AS sound
    FROM pointsd.holds AS h
    LEFT JOIN pointsd.entries AS e ON e.bucket = $6::smallint AND e.user_id = h.user_id AND e.key = h.key AND e.type = 'consume'
        AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    WHERE h.bucket = $6::smallint AND h.user_id >= $1 AND ($2::uuid IS NULL OR h.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(h.user_id) = ANY ($4))
    GROUP BY h.user_id
), judged AS (
    SELECT user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed, a.total_expired,
           a.total_refunded, a.total_voided, a.total_adjusted, a.total_opening, a.expired_until, a.user_id IS NOT NULL AS has_account,
           coalesce(s.entries, 0) AS entries, coalesce(s.batches, 0) AS batches,
           coalesce(s.entries_print, 0) AS entries_print, coalesce(s.batches_print, 0) AS batches_print,
           coalesce(s.drawn, 0) AS drawn_print,
           c.user_id IS NULL OR (c.balance, c.total_recharged, c.total_consumed, c.total_expired, c.total_refunded,
                                 c.total_voided, c.total_adjusted, c.total_opening, c.expired_until, c.drawn_print)
               IS DISTINCT FROM (a.balance, a.total_recharged, a.total_consumed, a.total_expired, a.total_refunded,
                                 a.total_voided, a.total_adjusted, a.total_opening, a.expired_until, coalesce(s.drawn, 0)) AS changed,
           coalesce(
               coalesce(s.entries, 0) = a.last_seq AND coalesce(s.batches, 0) = a.last_batch
               AND coalesce(s.last, 0) = a.last_batch AND coalesce(s.remaining, 0) = greatest(0, a.balance)
               AND coalesce(s.proof, 0) = a.proof - pointsd.chain_print(0, 0) + coalesce(s.drawn, 0) + coalesce(s.opened, 0)
               AND coalesce(h.open, 0) = a.open_holds AND coalesce(h.sound, true)
               AND a.expired_until IS NOT DISTINCT FROM CASE WHEN c.user_id IS NULL THEN o.expired_until ELSE c.expired_until END
               AND (c.user_id IS NULL AND $3
                    OR (c.seq, c.batches, c.entries_print, c.batches_print)
                       = (a.last_seq, a.last_batch, coalesce(s.entries_print, 0), coalesce(s.batches_print, 0)))
               AND (s.last_opening > s.first_other) IS NOT TRUE AND s.opening_misplaced IS NOT TRUE
               AND o.out_of_time IS NOT TRUE AND r.user_id IS NULL AND f.user_id IS NULL,
               false) AS sound
    FROM account AS a FULL JOIN summed AS s USING (user_id) FULL JOIN checkpoint AS c USING (user_id) FULL JOIN held AS h USING (user_id)
         LEFT JOIN allocated AS o USING (user_id)
         LEFT JOIN taken_back AS r USING (user_id)
         LEFT JOIN (SELECT DISTINCT n.user_id FROM pointsd.findings AS n WHERE n.resolved_at IS NULL) AS f USING (user_id)
), kept AS (
    INSERT INTO pointsd.checkpoints (user_id, seq, batches, balance, total_recharged, total_consumed, total_expired,
                                     total_refunded, total_voided, total_adjusted, total_opening, expired_until, entries_print,
                                     batches_print, drawn_print, bucket)
    SELECT user_id, last_seq, last_batch, balance, total_recharged, total_consumed, total_expired, total_refunded,
           total_voided, total_adjusted, total_opening, expired_until, entries_print, batches_print, drawn_print, $6::smallint
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
SELECT CASE WHEN $5::timestamptz IS NOT NULL THEN pointsd.fold_print(coalesce(sum(entries_print), 0) - (
           SELECT coalesce(sum(pointsd.entry_print(ROW(o.*)::pointsd.entries)), 0) FROM pointsd.entries AS o -- few, found by the time of recording
           WHERE o.recorded_at >= $5 AND o.bucket = $6::smallint AND o.user_id >= $1 AND ($2::uuid IS NULL OR o.user_id < $2))) END AS closed,
       count(*) FILTER (WHERE has_account) AS accounts, coalesce(sum(batches), 0)::bigint AS batches,
       coalesce(sum(entries), 0)::bigint AS entries,
       coalesce(array_agg(user_id) FILTER (WHERE NOT sound), '{}') AS suspects
FROM judged
