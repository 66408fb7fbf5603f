-- Accounts of a bucket in arrears as of an instant, the highest arrears first. An account with a later entry has the balance that its
-- first later entry began with. `booked` is the arrears by the account's last entry. `since` is the last entry that took the
-- account below zero, found from its last entry backwards; an account without such an entry has none. OFFSET 0 has the later
-- entries found by the time of their recording, and not account by account.
-- A consume that used more than the balance before it found that much restored, in arrears already: it began nothing.
--
-- Repayments pay the oldest arrears first. So the unpaid items are the last entries since then that drew arrears, back to what is
-- owed; of the first of them a part may be paid. `unpaid` sums them by age, the oldest first. `item` is the one that happened first.
-- $1 timestamptz: the instant; $2 timestamptz[]: the bounds between ages, ascending; age 0 is the oldest; $3 smallint: the bucket
WITH later AS MATERIALIZED (
    SELECT user_id, min(seq) AS seq
    FROM (SELECT user_id, seq FROM pointsd.entries WHERE bucket = $3::smallint AND recorded_at > $1 OFFSET 0) AS e
    GROUP BY user_id
), owing AS (
    SELECT a.user_id, -a.balance AS owed, 9223372036854775807 AS before_seq
    FROM pointsd.accounts AS a
    WHERE a.bucket = $3::smallint AND a.in_arrears AND NOT EXISTS (SELECT FROM later AS l WHERE l.user_id = a.user_id)
    UNION ALL
    SELECT l.user_id, -e.balance, l.seq
    FROM later AS l
    CROSS JOIN LATERAL (
        -- A repair begins with the balance of the history, and its correction has the account's own.
        SELECT coalesce((e.correction #>> '{account,before,balance}')::bigint, e.balance_before) AS balance
        FROM pointsd.entries AS e
        WHERE e.bucket = $3::smallint AND e.user_id = l.user_id AND e.seq = l.seq
        OFFSET 0
    ) AS e
    WHERE e.balance < 0
)
SELECT o.user_id, o.owed, coalesce(greatest(-last.balance_after, 0), 0) AS booked, below.seq, below.at AS since,
       below.type, below.source_type, last.at AS last_at, items.unpaid, item.seq AS item_seq, item.at AS item_at,
       item.type AS item_type, item.source_type AS item_source_type, item.source_id AS item_source_id,
       item.description AS item_description, items.item_unpaid
FROM owing AS o
LEFT JOIN LATERAL (
    SELECT e.seq, e.at, e.type, e.source_type
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = o.user_id AND e.seq < o.before_seq
      AND e.balance_before >= 0 AND e.balance_after < 0
      AND NOT (e.type = 'consume'
               AND e.balance_before < (SELECT coalesce(sum(points), 0) FROM unnest(e.allocated_points) AS points))
    ORDER BY e.seq DESC
    LIMIT 1
) AS below ON true
LEFT JOIN LATERAL (
    SELECT e.at, e.balance_after
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = o.user_id AND e.seq < o.before_seq
    ORDER BY e.seq DESC
    LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT ARRAY[coalesce(sum(i.unpaid) FILTER (WHERE i.age = 0), 0)::bigint,
                 coalesce(sum(i.unpaid) FILTER (WHERE i.age = 1), 0)::bigint,
                 coalesce(sum(i.unpaid) FILTER (WHERE i.age = 2), 0)::bigint,
                 coalesce(sum(i.unpaid) FILTER (WHERE i.age = 3), 0)::bigint] AS unpaid,
           (array_agg(i.seq ORDER BY i.at, i.seq))[1] AS seq,
           (array_agg(i.unpaid ORDER BY i.at, i.seq))[1] AS item_unpaid
    FROM (
        SELECT d.seq, d.at, width_bucket(d.at, $2::timestamptz[]) AS age,
               least(d.drawn, o.owed - d.later)::bigint AS unpaid, o.owed > d.later AS is_unpaid
        FROM (
            SELECT e.seq, e.at, e.drawn, sum(e.drawn) OVER (ORDER BY e.seq DESC) - e.drawn AS later
            FROM (
                SELECT e.seq, e.at,
                       CASE WHEN e.type = 'adjust' THEN greatest(-e.balance_after, 0) - greatest(-e.balance_before, 0)
                            WHEN cardinality(e.allocated_points) = 0 THEN e.amount
                            ELSE e.amount - (SELECT sum(points) FROM unnest(e.allocated_points) AS points)
                       END AS drawn
                FROM pointsd.entries AS e
                WHERE e.bucket = $3::smallint AND e.user_id = o.user_id AND e.seq >= below.seq AND e.seq < o.before_seq
                  AND e.type IN ('consume', 'void', 'adjust', 'opening')
                ORDER BY e.seq DESC
                OFFSET 0
            ) AS e
            WHERE e.drawn > 0
        ) AS d
    ) AS i
    WHERE i.is_unpaid
) AS items ON below.seq IS NOT NULL
LEFT JOIN LATERAL (
    SELECT e.seq, e.at, e.type, e.source_type, e.source_id, e.description
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = o.user_id AND e.seq = items.seq
    OFFSET 0
) AS item ON true
ORDER BY o.owed DESC, o.user_id
