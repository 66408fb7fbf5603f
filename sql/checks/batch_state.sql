-- A batch is open exactly while points remain in it; 0 to its amount remain; it expires after it was opened.
-- $1 uuid[]: the users
SELECT b.user_id, b.batch, NULL::bigint AS seq,
       concat_ws(', ', CASE WHEN b.open <> (b.remaining > 0) THEN CASE WHEN b.remaining > 0 THEN 'open' ELSE 'closed' END END,
                       CASE WHEN b.remaining NOT BETWEEN 0 AND b.amount THEN 'remaining 0 to ' || b.amount END,
                       CASE WHEN b.expires_at <= b.opened_at
                           THEN 'expires_at after ' || (b.opened_at AT TIME ZONE 'UTC') || ' UTC' END) AS expected,
       concat_ws(', ', CASE WHEN b.open <> (b.remaining > 0) THEN CASE WHEN b.open THEN 'open' ELSE 'closed' END END,
                       CASE WHEN b.remaining NOT BETWEEN 0 AND b.amount THEN 'remaining ' || b.remaining END,
                       CASE WHEN b.expires_at <= b.opened_at
                           THEN 'expires_at ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC' END) AS found,
       NULL::bigint AS points
FROM pointsd.batches AS b
WHERE b.bucket = 0 AND b.user_id = ANY ($1::uuid[])
  AND (b.open <> (b.remaining > 0) OR b.remaining NOT BETWEEN 0 AND b.amount OR b.expires_at <= b.opened_at)
