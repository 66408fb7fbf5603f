-- The requests of a locked lane after $2 and up to $3, in the order of their ids: the next ones, or only the ids in $5. With $5,
-- a failed request is also taken once its pause is over. A request is left out while an earlier one of its account waits.
-- So are the requests of buckets whose node is away.
-- Every row is readable by the driver. An instant out of range becomes one that the ledger refuses, and a number comes as its
-- digits. A text that is too long is cut just beyond its limit, so that the ledger still refuses it.
-- $1 smallint: the lane; $2, $3 bigint: ids; $4 bigint: how many at most; $5 bigint[]: only these ids, or null;
-- $6 smallint[]: buckets to leave out, or null
SELECT
       r.id, r.user_id, r.op, r.points, left(r.source, 65) AS source, r.order_id, r.paid, left(r.currency, 21) AS currency,
       CASE WHEN r.expires_at >= '1970-01-01Z' AND r.expires_at < '10000-01-01Z' THEN r.expires_at
            WHEN r.expires_at IS NOT NULL THEN '1969-12-31Z' END AS expires_at,
       left(r.source_type, 65) AS source_type, left(r.source_id, 256) AS source_id,
       CASE WHEN r.until >= '1970-01-01Z' AND r.until < '10000-01-01Z' THEN r.until
            WHEN r.until IS NOT NULL THEN '1969-12-31Z' END AS until,
       left(r.of, 256) AS of, left(r.beyond, 16) AS beyond,
       left(r.duration::text, 100) AS duration, left(r.key, 256) AS key, left(r.description, 1001) AS description,
       CASE WHEN r.at >= '1970-01-01Z' AND r.at < '10000-01-01Z' THEN r.at ELSE '1969-12-31Z' END AS at,
       CASE WHEN isfinite(r.enqueued_at)
            THEN (extract(epoch FROM clock_timestamp() - r.enqueued_at) * 1000)::bigint ELSE 0 END AS age
FROM pointsd.requests_open AS r
WHERE r.bucket = 0 AND r.lane = $1 AND r.id > $2 AND r.id <= $3
  AND ($5::bigint[] IS NULL OR r.id = ANY ($5::bigint[]))
  AND (r.state = 'pending' OR $5::bigint[] IS NOT NULL AND r.retry_at <= clock_timestamp())
  AND ($6::smallint[] IS NULL OR pointsd.bucket_of(r.user_id) <> ALL ($6))
  AND NOT EXISTS (SELECT FROM pointsd.requests_open AS w
                  WHERE w.state = 'waiting' AND w.bucket = 0 AND w.user_id = r.user_id AND w.id < r.id
                  OFFSET 0) -- asked by the index for each row: as a join it would be planned once, for no rows at all
ORDER BY r.id
LIMIT $4
