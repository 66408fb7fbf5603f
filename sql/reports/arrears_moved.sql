-- What became of arrears since the last report, an account a row: what it owed then, what entries since put into arrears
-- and took out of them, what it owes now, and how it left them. Of accounts that the last report knew, entries are found
-- by their number; of others by the time of their recording, $1, an hour before the last report's snapshot: an entry is
-- written down a little before it can be seen. OFFSET 0 keeps the look-ups to those accounts.
-- A repair is told apart: what an adjust entry set right may have been wrong at the last report already, or not. But what
-- it left, and what came after, must lead to what the account owes now: that is `rightly`, null where nothing was repaired.
-- $1 timestamptz: entries recorded later
WITH moves AS (
    SELECT e.*
    FROM pointsd.arrears_seen AS k
    CROSS JOIN LATERAL (
        SELECT e.user_id, e.seq, e.type, e.recorded_at, e.balance_before, e.balance_after
        FROM pointsd.entries AS e
        WHERE e.user_id = k.user_id AND e.seq > k.seq AND (e.balance_before < 0 OR e.balance_after < 0 OR e.type = 'adjust')
        OFFSET 0
    ) AS e
    UNION ALL
    SELECT e.user_id, e.seq, e.type, e.recorded_at, e.balance_before, e.balance_after
    FROM pointsd.entries AS e
    WHERE e.recorded_at > $1 AND (e.balance_before < 0 OR e.balance_after < 0 OR e.type = 'adjust')
      AND NOT EXISTS (SELECT FROM pointsd.arrears_seen AS k WHERE k.user_id = e.user_id)
), steps AS (
    SELECT *, greatest(-balance_before, 0) AS before, greatest(-balance_after, 0) AS after,
           max(seq) FILTER (WHERE type = 'adjust') OVER (PARTITION BY user_id) AS repaired
    FROM moves
), moved AS (
    SELECT user_id, max(seq) AS seq, max(recorded_at) AS moved,
           coalesce(sum(greatest(after - before, 0)) FILTER (WHERE type <> 'adjust'), 0)::bigint AS drawn,
           coalesce(sum(greatest(before - after, 0)) FILTER (WHERE type <> 'adjust'), 0)::bigint AS repaid,
           sum(CASE WHEN seq = repaired THEN after ELSE after - before END) FILTER (WHERE seq >= repaired)::bigint AS rightly
    FROM steps
    GROUP BY user_id
), owing AS (
    SELECT user_id, -balance AS owed, last_seq AS seq FROM pointsd.accounts WHERE in_arrears
)
SELECT user_id, k.user_id IS NOT NULL AS known, coalesce(k.owed, 0) AS opening, k.seq AS known_seq, k.moved AS known_moved,
       coalesce(m.drawn, 0) AS drawn, coalesce(m.repaid, 0) AS repaid, m.rightly, coalesce(o.owed, 0) AS closing,
       coalesce(o.seq, m.seq, k.seq) AS seq, greatest(m.moved, k.moved) AS moved,
       out.at AS out_at, out.type AS out_type, out.source_type AS out_source
FROM pointsd.arrears_seen AS k
FULL JOIN moved AS m USING (user_id)
FULL JOIN owing AS o USING (user_id)
LEFT JOIN LATERAL (
    SELECT e.at, e.type, e.source_type
    FROM pointsd.entries AS e
    WHERE k.owed > 0 AND o.owed IS NULL
      AND e.user_id = k.user_id AND e.seq > k.seq AND e.balance_before < 0 AND e.balance_after >= 0
    ORDER BY e.seq DESC
    LIMIT 1
) AS out ON true
ORDER BY user_id
