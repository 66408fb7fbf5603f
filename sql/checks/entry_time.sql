-- No entry is dated more than five minutes after it was recorded: a posting from the future is refused.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT user_id, NULL::integer AS batch, seq,
       'dated until ' || (recorded_at AT TIME ZONE interval '5 minutes') || ' UTC' AS expected,
       'dated ' || (at AT TIME ZONE 'UTC') || ' UTC' AS found, NULL::bigint AS points
FROM pointsd.entries
WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
  AND at AT TIME ZONE interval '0' > recorded_at AT TIME ZONE interval '5 minutes'
