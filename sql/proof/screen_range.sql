-- Screens all users of a range of a bucket, with or without an account: reads their entries and batches once, writes the checkpoints
-- of sound users, and returns the suspects. The sums of the entries must match the account and the batches; see the
-- functions in the migration on proofs.
-- The entries of a user with a checkpoint must be exactly the proved ones. A user with later entries is a suspect, too.
-- $1 uuid, $2 uuid: from this user on, and before that one (null: to the end)
-- $3 boolean: whether this is a first proof. It also checks each allocation against the end and source of its batch, and each
-- refund and void against its entry. Later proofs need not: the first one did so for users with a checkpoint, and users without one are suspects
-- $4 integer[]: only users in these groups (null: all); $5 smallint: the bucket
WITH entry AS (
    SELECT e.user_id, count(*) AS entries, sum(pointsd.entry_print(e)) AS print, sum(pointsd.entry_proof(e)) AS proof,
           -- Later proofs need not: these entries are the proved ones.
           max(e.seq) FILTER (WHERE $3::boolean AND e.type = 'opening') AS last_opening,
           min(e.seq) FILTER (WHERE $3::boolean AND e.type NOT IN ('opening', 'expire', 'adjust')) AS first_other,
           bool_or(CASE WHEN e.balance_after < e.balance_before THEN e.seq <> 1 ELSE e.balance_before < 0 END)
               FILTER (WHERE $3::boolean AND e.type = 'opening') AS opening_misplaced
    FROM pointsd.entries AS e
    WHERE e.bucket = $5::smallint AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(e.user_id) = ANY ($4))
    GROUP BY e.user_id
), batch AS (
    SELECT b.user_id, count(*) AS batches, max(b.batch) AS last, sum(b.remaining) AS remaining,
           sum(pointsd.batch_print(b)) AS print, sum(pointsd.batch_proof(b)) AS drawn,
           sum(pointsd.opening_print(b.batch, b.amount, b.source, b.opened_at, b.paid, b.currency)) AS opened
    FROM pointsd.batches AS b
    WHERE b.bucket = $5::smallint AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(b.user_id) = ANY ($4))
    GROUP BY b.user_id
), account AS (
    SELECT a.*, pointsd.account_proof(a) AS proof FROM pointsd.accounts AS a
    WHERE a.bucket = $5::smallint AND a.user_id >= $1 AND ($2::uuid IS NULL OR a.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(a.user_id) = ANY ($4))
), checkpoint AS (
    SELECT c.* FROM pointsd.checkpoints AS c
    WHERE c.bucket = $5::smallint AND c.user_id >= $1 AND ($2::uuid IS NULL OR c.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(c.user_id) = ANY ($4))
), allocated AS (
    SELECT e.user_id, bool_or(NOT pointsd.drew_in_time(e, b) OR e.type = 'restore' AND NOT pointsd.restore_is_sound(e)) AS out_of_time,
           max(b.expires_at) FILTER (WHERE e.type = 'expire') AS expired_until
    FROM pointsd.entries AS e, unnest(e.allocated_batches) AS t (batch), pointsd.batches AS b
    WHERE $3::boolean AND e.bucket = $5::smallint AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
      AND b.bucket = $5::smallint AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2) -- the planner does not carry a range over
      AND b.user_id = e.user_id AND b.batch = t.batch AND (e.type IN ('expire', 'restore') OR NOT pointsd.drew_in_time(e, b))
    GROUP BY e.user_id
), taken_back AS (
    SELECT DISTINCT r.user_id
    FROM (SELECT user_id, refers_to, type, source_id, sum(amount) AS points, sum(paid) AS paid,
                 CASE WHEN min(currency) = max(currency) THEN min(currency) WHEN count(currency) > 0 THEN '' END AS currency
          FROM pointsd.entries
          WHERE $3::boolean AND bucket = $5::smallint AND user_id >= $1 AND ($2::uuid IS NULL OR user_id < $2) AND refers_to IS NOT NULL
          GROUP BY user_id, refers_to, type, source_id) AS r
    LEFT JOIN pointsd.entries AS e ON e.bucket = $5::smallint AND e.user_id = r.user_id AND e.seq = r.refers_to
        AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    LEFT JOIN pointsd.batches AS b ON b.bucket = $5::smallint AND b.user_id = e.user_id AND b.batch = e.batch
        AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2)
    WHERE NOT pointsd.is_taken_back(e, r.type, r.source_id, r.points, b.expired, r.paid, r.currency)
    UNION
    SELECT r.user_id
    FROM pointsd.entries AS r
    WHERE $3::boolean AND r.bucket = $5::smallint AND r.user_id >= $1 AND ($2::uuid IS NULL OR r.user_id < $2)
      AND r.refers_to IS NOT NULL AND r.type = 'refund' AND NOT pointsd.refund_is_sound(r)
), held AS (
    SELECT h.user_id, count(*) FILTER (WHERE h.state = 'open') AS open, bool_and(pointsd.hold_is_sound(h, e)) AS sound
    FROM pointsd.holds AS h
    LEFT JOIN pointsd.entries AS e ON e.bucket = $5::smallint AND e.user_id = h.user_id AND e.key = h.key AND e.type = 'consume'
        AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    WHERE h.bucket = $5::smallint AND h.user_id >= $1 AND ($2::uuid IS NULL OR h.user_id < $2)
      AND ($4::integer[] IS NULL OR pointsd.digest_group(h.user_id) = ANY ($4))
    GROUP BY h.user_id
), judged AS (
    SELECT user_id, a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed, a.total_expired,
           a.total_refunded, a.total_voided, a.total_adjusted, a.total_opening, a.expired_until, a.user_id IS NOT NULL AS has_account,
           coalesce(e.entries, 0) AS entries, coalesce(b.batches, 0) AS batches,
           coalesce(e.print, 0) AS entries_print, coalesce(b.print, 0) AS batches_print,
           coalesce(b.drawn, 0) AS drawn_print,
           c.user_id IS NULL OR (c.balance, c.total_recharged, c.total_consumed, c.total_expired, c.total_refunded,
                                 c.total_voided, c.total_adjusted, c.total_opening, c.expired_until, c.drawn_print)
               IS DISTINCT FROM (a.balance, a.total_recharged, a.total_consumed, a.total_expired, a.total_refunded,
                                 a.total_voided, a.total_adjusted, a.total_opening, a.expired_until, coalesce(b.drawn, 0)) AS changed,
           coalesce(
               coalesce(e.entries, 0) = a.last_seq AND coalesce(b.batches, 0) = a.last_batch
               AND coalesce(b.last, 0) = a.last_batch AND coalesce(b.remaining, 0) = greatest(0, a.balance)
               AND coalesce(e.proof, 0) = a.proof - pointsd.chain_print(0, 0) + coalesce(b.drawn, 0) + coalesce(b.opened, 0)
               AND coalesce(h.open, 0) = a.open_holds AND coalesce(h.sound, true)
               AND a.expired_until IS NOT DISTINCT FROM CASE WHEN c.user_id IS NULL THEN o.expired_until ELSE c.expired_until END
               AND (c.user_id IS NULL AND $3
                    OR (c.seq, c.batches, c.entries_print, c.batches_print)
                       = (a.last_seq, a.last_batch, coalesce(e.print, 0), coalesce(b.print, 0)))
               AND (e.last_opening > e.first_other) IS NOT TRUE AND e.opening_misplaced IS NOT TRUE
               AND o.out_of_time IS NOT TRUE AND r.user_id IS NULL AND f.user_id IS NULL,
               false) AS sound
    FROM account AS a FULL JOIN entry AS e USING (user_id) FULL JOIN batch AS b USING (user_id)
         FULL JOIN checkpoint AS c USING (user_id) FULL JOIN held AS h USING (user_id)
         LEFT JOIN allocated AS o USING (user_id)
         LEFT JOIN taken_back AS r USING (user_id)
         LEFT JOIN (SELECT DISTINCT s.user_id FROM pointsd.findings AS s WHERE s.resolved_at IS NULL) AS f USING (user_id)
), kept AS (
    INSERT INTO pointsd.checkpoints (user_id, seq, batches, balance, total_recharged, total_consumed, total_expired,
                                     total_refunded, total_voided, total_adjusted, total_opening, expired_until, entries_print,
                                     batches_print, drawn_print, bucket)
    SELECT user_id, last_seq, last_batch, balance, total_recharged, total_consumed, total_expired, total_refunded,
           total_voided, total_adjusted, total_opening, expired_until, entries_print, batches_print, drawn_print, $5::smallint
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
SELECT count(*) FILTER (WHERE has_account) AS accounts, coalesce(sum(batches), 0)::bigint AS batches,
       coalesce(sum(entries), 0)::bigint AS entries,
       coalesce(array_agg(user_id) FILTER (WHERE NOT sound), '{}') AS suspects
FROM judged
