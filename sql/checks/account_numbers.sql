-- An account's last_seq is the number of its last entry, its last_batch the number of its entries that opened a batch, and its
-- open_holds the number of its open holds.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       concat_ws(', ', CASE WHEN a.last_seq <> s.last_seq THEN 'last_seq ' || s.last_seq END,
                       CASE WHEN a.last_batch <> s.last_batch THEN 'last_batch ' || s.last_batch END,
                       CASE WHEN a.open_holds <> h.open THEN 'open_holds ' || h.open END) AS expected,
       concat_ws(', ', CASE WHEN a.last_seq <> s.last_seq THEN 'last_seq ' || a.last_seq END,
                       CASE WHEN a.last_batch <> s.last_batch THEN 'last_batch ' || a.last_batch END,
                       CASE WHEN a.open_holds <> h.open THEN 'open_holds ' || a.open_holds END) AS found,
       NULL::bigint AS points
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT coalesce(max(e.seq), 0) AS last_seq,
           count(*) FILTER (WHERE pointsd.opens_batch(e.type, e.balance_after > e.balance_before)) AS last_batch
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = a.user_id
) AS s
CROSS JOIN LATERAL (
    SELECT count(*) AS open FROM pointsd.holds AS o WHERE o.bucket = $2 AND o.user_id = a.user_id AND o.state = 'open'
) AS h
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[])
  AND (a.last_seq <> s.last_seq OR a.last_batch <> s.last_batch OR a.open_holds <> h.open)
