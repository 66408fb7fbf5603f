-- An account's expired_until is the latest end of a batch that ever expired with points in it. It never goes back: postings look
-- for points to restore only where a consume is from before it.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH expired AS (
    SELECT e.user_id, max(b.expires_at) AS until
    FROM pointsd.entries AS e
    CROSS JOIN LATERAL unnest(e.allocated_batches) AS t (batch)
    JOIN pointsd.batches AS b ON b.bucket = $2 AND b.user_id = e.user_id AND b.batch = t.batch
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[]) AND e.type = 'expire'
    GROUP BY e.user_id
)
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       coalesce('expired until ' || (x.until AT TIME ZONE 'UTC') || ' UTC', 'nothing expired') AS expected,
       coalesce('expired until ' || (a.expired_until AT TIME ZONE 'UTC') || ' UTC', 'nothing expired') AS found,
       NULL::bigint AS points
FROM pointsd.accounts AS a
LEFT JOIN expired AS x ON x.user_id = a.user_id
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[]) AND a.expired_until IS DISTINCT FROM x.until
