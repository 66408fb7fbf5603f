-- The outcomes of a group's requests, in the transaction that posts them. Their rows move to the other partition.
-- The rows are found one by one, by the index of ids, and each outcome by the place of its id in the array. A join would be planned
-- while the queue is empty, and that plan, which stays, reads the whole lane. A long array of texts is slow to index, so an
-- outcome that is the same for many is given once.
-- $1 smallint: the lane; $2 bigint[]: the ids, ascending; $3 bigint[], $4 integer[]: the seq of each, and its outcome, counted from 1;
-- $5, $6, $7 text[]: state, code and message of each outcome
UPDATE pointsd.requests AS r
SET state = ($5::text[])[($4::integer[])[width_bucket(r.id, $2::bigint[])]],
    code = ($6::text[])[($4::integer[])[width_bucket(r.id, $2::bigint[])]],
    message = ($7::text[])[($4::integer[])[width_bucket(r.id, $2::bigint[])]],
    seq = ($3::bigint[])[width_bucket(r.id, $2::bigint[])],
    retry_at = NULL, finished_at = clock_timestamp()
WHERE r.state IN ('pending', 'waiting') AND r.ctid = ANY (ARRAY(
    SELECT found.ctid
    FROM unnest($2::bigint[]) AS named (id)
    CROSS JOIN LATERAL (
        SELECT o.ctid FROM pointsd.requests_open AS o WHERE o.bucket = 0 AND o.lane = $1 AND o.id = named.id OFFSET 0
    ) AS found))
