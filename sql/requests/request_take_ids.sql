-- Those of a locked lane's requests that are named, if they are open, and failed ones once their pause is over. Without those of
-- buckets whose node is away.
-- $1 smallint: the lane; $2 bigint[]: their ids; $3 smallint[]: buckets to leave out, or null
SELECT r.*
FROM unnest($2::bigint[]) AS named (id)
CROSS JOIN LATERAL (
    SELECT *
    FROM pointsd.requests_unblocked AS u
    WHERE u.bucket = 0 AND u.lane = $1 AND u.id = named.id AND (u.state = 'pending' OR u.retry_at <= clock_timestamp())
      AND ($3::smallint[] IS NULL OR pointsd.bucket_of(u.user_id) <> ALL ($3))
    OFFSET 0 -- looked up for each id: a plan made while the queue is empty would read the whole lane
) AS r
