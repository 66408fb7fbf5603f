-- The next requests of a locked lane after $2, in the order of their ids, without those of buckets whose node is away.
-- $1 smallint: the lane; $2 bigint: an id; $3 bigint: how many at most; $4 smallint[]: buckets to leave out, or null
SELECT *
FROM pointsd.requests_unblocked
WHERE bucket = 0 AND lane = $1 AND id > $2 AND state = 'pending'
  AND ($4::smallint[] IS NULL OR pointsd.bucket_of(user_id) <> ALL ($4))
ORDER BY id
LIMIT $3
