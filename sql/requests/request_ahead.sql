-- The ids of a lane's next requests after $2, sorted so that those of an account stand together, in the order of their ids; and the failed
-- ones that wait meanwhile, as request_waiting.sql finds them.
-- $1 smallint: the lane; $2 bigint: an id; $3 bigint: how many at most; $4 smallint[]: buckets to leave out, because their node is
-- away, or null
SELECT array_agg(id ORDER BY pointsd.bucket_of(user_id), user_id, id) AS ids,
       ARRAY(SELECT id
             FROM pointsd.requests_open
             WHERE bucket = 0 AND lane = $1 AND state = 'waiting' AND ($4::smallint[] IS NULL OR pointsd.bucket_of(user_id) <> ALL ($4))
             LIMIT 100) AS waiting
FROM (
    SELECT id, user_id
    FROM pointsd.requests_unblocked
    WHERE bucket = 0 AND lane = $1 AND id > $2 AND state = 'pending'
      AND ($4::smallint[] IS NULL OR pointsd.bucket_of(user_id) <> ALL ($4))
    ORDER BY id
    LIMIT $3
) AS next
