-- A refund or a void keeps what it was asked for: with its first entry stand the points and the number of its entries. A refund in
-- several parts is several entries, one directly after the other, of the same consume.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH entry AS (
    SELECT user_id, seq, type, refers_to, amount, asked,
           max(seq) FILTER (WHERE type <> 'refund' OR key IS NOT NULL) OVER (PARTITION BY user_id ORDER BY seq) AS first
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
), posting AS (
    SELECT user_id, min(seq) AS seq, count(*) AS entries, sum(amount) AS points,
           bool_and(first IS NOT NULL) AND min(seq) = min(first) AND min(refers_to) = max(refers_to) AS together,
           max(asked ->> 'entries') AS asked_entries, max(asked ->> 'posted') AS asked_points
    FROM entry
    WHERE type IN ('refund', 'void')
    GROUP BY user_id, first
)
SELECT user_id, NULL::integer AS batch, seq,
       CASE WHEN together THEN format('asked for %s points in %s entries', points, entries)
            ELSE 'a key with the first entry of a refund' END AS expected,
       CASE WHEN together THEN format('asked for %s points in %s entries', coalesce(asked_points, '?'), coalesce(asked_entries, '?'))
            ELSE 'an entry that belongs to no refund' END AS found,
       NULL::bigint AS points
FROM posting
WHERE together IS NOT TRUE OR asked_points IS DISTINCT FROM points::text OR asked_entries IS DISTINCT FROM entries::text
