-- A batch is open exactly while points remain in it. Of its amount, 0 to all remain and 0 to all have expired. It expires after
-- it was opened, at an instant: the year 9999 stands for never.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT b.user_id, b.batch, NULL::bigint AS seq,
       concat_ws(', ', CASE WHEN b.open <> (b.remaining > 0) THEN CASE WHEN b.remaining > 0 THEN 'open' ELSE 'closed' END END,
                       CASE WHEN b.remaining NOT BETWEEN 0 AND b.amount THEN 'remaining 0 to ' || b.amount END,
                       CASE WHEN b.expired NOT BETWEEN 0 AND b.amount THEN 'expired 0 to ' || b.amount END,
                       CASE WHEN NOT isfinite(b.expires_at) THEN 'expires_at an instant'
                            WHEN b.expires_at <= b.opened_at
                           THEN 'expires_at after ' || (b.opened_at AT TIME ZONE 'UTC') || ' UTC' END) AS expected,
       concat_ws(', ', CASE WHEN b.open <> (b.remaining > 0) THEN CASE WHEN b.open THEN 'open' ELSE 'closed' END END,
                       CASE WHEN b.remaining NOT BETWEEN 0 AND b.amount THEN 'remaining ' || b.remaining END,
                       CASE WHEN b.expired NOT BETWEEN 0 AND b.amount THEN 'expired ' || b.expired END,
                       CASE WHEN NOT isfinite(b.expires_at) THEN 'expires_at ' || b.expires_at
                            WHEN b.expires_at <= b.opened_at
                           THEN 'expires_at ' || (b.expires_at AT TIME ZONE 'UTC') || ' UTC' END) AS found,
       NULL::bigint AS points
FROM pointsd.batches AS b
WHERE b.bucket = $2 AND b.user_id = ANY ($1::uuid[])
  AND (b.open <> (b.remaining > 0) OR b.remaining NOT BETWEEN 0 AND b.amount OR b.expired NOT BETWEEN 0 AND b.amount
       OR NOT isfinite(b.expires_at) OR b.expires_at <= b.opened_at)
