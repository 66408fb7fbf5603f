-- Accounts in arrears as of an instant, the highest arrears first. An account with a later entry has the balance that its
-- first later entry began with. `booked` is the arrears by the account's last entry. `since` is the last entry that took the
-- account below zero, found from its last entry backwards; an account without such an entry has none. OFFSET 0 has the later
-- entries found by the time of their recording, and not account by account.
-- A consume that used more than the balance before it found that much restored, in arrears already: it began nothing.
-- $1 timestamptz: the instant
WITH later AS MATERIALIZED (
    SELECT bucket, user_id, min(seq) AS seq
    FROM (SELECT bucket, user_id, seq FROM pointsd.entries WHERE recorded_at > $1 OFFSET 0) AS e
    GROUP BY bucket, user_id
), owing AS (
    SELECT a.bucket, a.user_id, -a.balance AS owed, 9223372036854775807 AS before_seq
    FROM pointsd.accounts AS a
    WHERE a.in_arrears AND NOT EXISTS (SELECT FROM later AS l WHERE l.bucket = a.bucket AND l.user_id = a.user_id)
    UNION ALL
    SELECT l.bucket, l.user_id, -e.balance, l.seq
    FROM later AS l
    CROSS JOIN LATERAL (
        -- A repair begins with the balance of the history, and its correction has the account's own.
        SELECT coalesce((e.correction #>> '{account,before,balance}')::bigint, e.balance_before) AS balance
        FROM pointsd.entries AS e
        WHERE e.bucket = l.bucket AND e.user_id = l.user_id AND e.seq = l.seq
        OFFSET 0
    ) AS e
    WHERE e.balance < 0
)
SELECT o.user_id, o.owed, coalesce(greatest(-last.balance_after, 0), 0) AS booked, below.seq, below.at AS since,
       below.type, below.source_type, last.at AS last_at
FROM owing AS o
LEFT JOIN LATERAL (
    SELECT e.seq, e.at, e.type, e.source_type
    FROM pointsd.entries AS e
    WHERE e.bucket = o.bucket AND e.user_id = o.user_id AND e.seq < o.before_seq
      AND e.balance_before >= 0 AND e.balance_after < 0
      AND NOT (e.type = 'consume'
               AND e.balance_before < (SELECT coalesce(sum(points), 0) FROM unnest(e.allocated_points) AS points))
    ORDER BY e.seq DESC
    LIMIT 1
) AS below ON true
LEFT JOIN LATERAL (
    SELECT e.at, e.balance_after
    FROM pointsd.entries AS e
    WHERE e.bucket = o.bucket AND e.user_id = o.user_id AND e.seq < o.before_seq
    ORDER BY e.seq DESC
    LIMIT 1
) AS last ON true
ORDER BY o.owed DESC, o.user_id
