-- The outcomes of a group's requests, in the transaction that posts them. Their rows move to the other partition.
-- The rows are found between the first and the last id, and each outcome by the place of its id in the array. A join would be planned
-- while the queue is empty, and that plan, which stays, reads the whole lane.
-- $1 smallint: the lane; $2 bigint[]: the ids, ascending; $3 text[], $4 bigint[], $5 text[], $6 text[]: state, seq, code
-- and message of each
UPDATE pointsd.requests AS r
SET state = ($3::text[])[width_bucket(r.id, $2::bigint[])],
    seq = ($4::bigint[])[width_bucket(r.id, $2::bigint[])],
    code = ($5::text[])[width_bucket(r.id, $2::bigint[])],
    message = ($6::text[])[width_bucket(r.id, $2::bigint[])],
    retry_at = NULL, finished_at = clock_timestamp()
WHERE r.bucket = 0 AND r.lane = $1 AND r.id BETWEEN ($2::bigint[])[1] AND ($2::bigint[])[cardinality($2::bigint[])]
  AND r.id = ($2::bigint[])[width_bucket(r.id, $2::bigint[])] AND r.state IN ('pending', 'waiting')
