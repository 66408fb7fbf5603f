-- Compares all users of a range of a bucket with their checkpoints: reads every entry and batch from the first on, and returns the digest
-- groups with sums that differ. Unchanged rows still prove their arithmetic, so this is a full proof of them. Holds write no
-- entry, so each is compared with its account and its consume.
-- Without digest groups all users are one group, 0: a sum for each of 4096 groups takes two thirds longer.
-- Entries after a checkpoint are left out by their number. Users with such entries, or without a checkpoint, are returned
-- as moved on; they are proved like every account that changed.
-- $1 uuid, $2 uuid: from this user on, and before that one (null: to the end)
-- $3 boolean: by digest group
-- $4 timestamptz: the end of the last closed business day. `closed` is the fingerprint of the entries recorded before it; null without one
-- $5 smallint: the bucket
WITH entry AS (
    SELECT CASE WHEN $3::boolean THEN pointsd.digest_group(e.user_id) ELSE 0 END AS part, count(*) AS entries, sum(pointsd.entry_print(ROW(e.*)::pointsd.entries)) AS print
    FROM pointsd.entries AS e
    WHERE e.bucket = $5::smallint AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    GROUP BY 1
), batch AS (
    SELECT CASE WHEN $3::boolean THEN pointsd.digest_group(b.user_id) ELSE 0 END AS part, count(*) AS batches, sum(pointsd.batch_print(ROW(b.*)::pointsd.batches)) AS print,
           sum(pointsd.batch_proof(ROW(b.*)::pointsd.batches)) AS drawn
    FROM pointsd.batches AS b
    WHERE b.bucket = $5::smallint AND b.user_id >= $1 AND ($2::uuid IS NULL OR b.user_id < $2)
    GROUP BY 1
), held AS (
    SELECT h.user_id, count(*) FILTER (WHERE h.state = 'open') AS open, bool_and(pointsd.hold_is_sound(ROW(h.*)::pointsd.holds, ROW(e.*)::pointsd.entries)) AS sound
    FROM pointsd.holds AS h
    LEFT JOIN pointsd.entries AS e ON e.bucket = $5::smallint AND e.user_id = h.user_id AND e.key = h.key AND e.type = 'consume'
        AND e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    WHERE h.bucket = $5::smallint AND h.user_id >= $1 AND ($2::uuid IS NULL OR h.user_id < $2)
    GROUP BY h.user_id
), account AS (
    SELECT CASE WHEN $3::boolean THEN pointsd.digest_group(user_id) ELSE 0 END AS part, count(a.last_seq) AS accounts, sum(c.entries_print) AS entries_print,
           sum(c.batches_print) AS batches_print, sum(c.drawn_print) AS drawn_print,
           array_agg(user_id) FILTER (WHERE a.last_seq > coalesce(c.seq, 0)) AS moved_on,
           bool_and(coalesce(
               a.last_seq > coalesce(c.seq, 0)
               OR (a.last_seq, a.last_batch, a.balance, a.total_recharged, a.total_consumed, a.total_expired,
                   a.total_refunded, a.total_voided, a.total_adjusted, a.total_opening)
                  = (c.seq, c.batches, c.balance, c.total_recharged, c.total_consumed, c.total_expired,
                     c.total_refunded, c.total_voided, c.total_adjusted, c.total_opening)
                  AND a.expired_until IS NOT DISTINCT FROM c.expired_until AND a.open_holds = coalesce(h.open, 0),
               false) AND h.sound IS NOT FALSE) AS same
    FROM (SELECT * FROM pointsd.accounts
          WHERE bucket = $5::smallint AND user_id >= $1 AND ($2::uuid IS NULL OR user_id < $2)) AS a
    FULL JOIN (SELECT * FROM pointsd.checkpoints
               WHERE bucket = $5::smallint AND user_id >= $1 AND ($2::uuid IS NULL OR user_id < $2)) AS c USING (user_id)
    FULL JOIN held AS h USING (user_id)
    GROUP BY 1
), later AS (
    SELECT g.part, sum(e.print) AS entries_print, sum(b.print) AS batches_print,
           sum(b.drawn - coalesce(c.drawn_print, 0)) AS drawn_print
    FROM account AS g, unnest(g.moved_on) AS m (user_id)
    LEFT JOIN LATERAL (SELECT * FROM pointsd.checkpoints AS p WHERE p.bucket = $5::smallint AND p.user_id = m.user_id OFFSET 0) AS c ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(pointsd.entry_print(ROW(n.*)::pointsd.entries)), 0) AS print
        FROM pointsd.entries AS n WHERE n.bucket = $5::smallint AND n.user_id = m.user_id AND n.seq > coalesce(c.seq, -9223372036854775808)) AS e
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(pointsd.batch_print(ROW(o.*)::pointsd.batches)) FILTER (WHERE o.batch > coalesce(c.batches, -2147483648)), 0) AS print,
               coalesce(sum(pointsd.batch_proof(ROW(o.*)::pointsd.batches)), 0) AS drawn
        FROM pointsd.batches AS o WHERE o.bucket = $5::smallint AND o.user_id = m.user_id) AS b
    GROUP BY g.part
)
SELECT CASE WHEN $4::timestamptz IS NOT NULL THEN pointsd.fold_print(coalesce(sum(e.print), 0) - (
           SELECT coalesce(sum(pointsd.entry_print(ROW(o.*)::pointsd.entries)), 0) FROM pointsd.entries AS o -- few, found by the time of recording
           WHERE o.recorded_at >= $4 AND o.bucket = $5::smallint AND o.user_id >= $1 AND ($2::uuid IS NULL OR o.user_id < $2))) END AS closed,
       coalesce(sum(accounts), 0)::bigint AS accounts, coalesce(sum(batches), 0)::bigint AS batches,
       coalesce(sum(entries), 0)::bigint AS entries,
       coalesce(array_agg(part) FILTER (
           WHERE a.same IS NOT true
              OR coalesce(e.print, 0) <> coalesce(a.entries_print, 0) + coalesce(l.entries_print, 0)
              OR coalesce(b.print, 0) <> coalesce(a.batches_print, 0) + coalesce(l.batches_print, 0)
              OR coalesce(b.drawn, 0) <> coalesce(a.drawn_print, 0) + coalesce(l.drawn_print, 0)), '{}') AS differing,
       (SELECT coalesce(array_agg(m.user_id), '{}') FROM account, unnest(moved_on) AS m (user_id)) AS moved_on
FROM account AS a FULL JOIN entry AS e USING (part) FULL JOIN batch AS b USING (part)
     LEFT JOIN later AS l USING (part)
