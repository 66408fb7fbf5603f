-- A refund takes back a consume, for the same task. The refunds of a consume never come to more than it. The finding is the first
-- refund that breaks this.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH refund AS (
    SELECT user_id, seq, refers_to, source_id, sum(amount) OVER (PARTITION BY user_id, refers_to ORDER BY seq) AS points
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[]) AND type = 'refund'
)
SELECT DISTINCT ON (r.user_id, r.refers_to) r.user_id, NULL::integer AS batch, r.seq,
       CASE WHEN c.type IS DISTINCT FROM 'consume' THEN 'a consume'
            WHEN c.source_id IS DISTINCT FROM r.source_id THEN 'refund of ' || coalesce(c.source_id, 'nothing')
            ELSE format('at most %s points refunded', c.amount) END AS expected,
       CASE WHEN c.type IS DISTINCT FROM 'consume' THEN coalesce(c.type, concat('no entry ', r.refers_to))
            WHEN c.source_id IS DISTINCT FROM r.source_id THEN 'refund of ' || coalesce(r.source_id, 'nothing')
            ELSE format('%s points refunded', r.points) END AS found,
       CASE WHEN c.type = 'consume' AND r.points > c.amount THEN pointsd.clamp_bigint(r.points - c.amount) END AS points
FROM refund AS r
LEFT JOIN pointsd.entries AS c ON c.bucket = $2 AND c.user_id = r.user_id AND c.seq = r.refers_to
WHERE c.type IS DISTINCT FROM 'consume' OR c.source_id IS DISTINCT FROM r.source_id OR r.points > c.amount
ORDER BY r.user_id, r.refers_to, r.seq
