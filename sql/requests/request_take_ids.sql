-- Those of a locked lane's requests that are named, if they are open, and failed ones once their pause is over. Without those of
-- buckets whose node is away.
-- $1 smallint: the lane; $2 bigint[]: their ids; $3 smallint[]: buckets to leave out, or null
SELECT *
FROM pointsd.requests_next
WHERE bucket = 0 AND lane = $1 AND id = ANY ($2::bigint[]) AND (state = 'pending' OR retry_at <= clock_timestamp())
  AND ($3::smallint[] IS NULL OR pointsd.bucket_of(user_id) <> ALL ($3))
