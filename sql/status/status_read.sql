-- What an operator has to look at, in figures. One row.
-- $1 bigint: where each count ends, or null; $2 bigint: the most accounts whose arrears are summed, or null
--
-- The arrears are the one figure that takes a look at each account. Where more owe, their sum is null.
SELECT (SELECT count(*) FROM (SELECT 1 FROM pointsd.findings WHERE resolved_at IS NULL LIMIT $1) AS open) AS findings,
       queue.pending, queue.waiting, oldest.oldest,
       (SELECT count(*) FROM (SELECT finished_at FROM pointsd.requests_done WHERE state = 'refused' ORDER BY id DESC LIMIT $1) AS last
        WHERE finished_at > clock_timestamp() - interval '1 day') AS refused,
       (SELECT count(*) FROM (SELECT 1 FROM pointsd.requests_done WHERE state = 'parked' LIMIT $1) AS parked) AS parked,
       mails.to_send, mails.oldest_mail,
       (SELECT count(*) FROM (SELECT 1 FROM pointsd.outbox WHERE state = 'parked' LIMIT $1) AS parked) AS parked_mails,
       owing.accounts,
       CASE WHEN $2::bigint IS NULL OR owing.accounts <= $2 THEN
           (SELECT coalesce(sum(-balance::numeric), 0) FROM pointsd.accounts WHERE in_arrears)::text END AS points
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'waiting') AS waiting
      FROM (SELECT state FROM pointsd.requests_open LIMIT $1) AS open) AS queue,
     (SELECT extract(epoch FROM clock_timestamp() - min(first.enqueued_at))::bigint AS oldest
      FROM pointsd.request_lanes AS l
      CROSS JOIN LATERAL (SELECT r.enqueued_at FROM pointsd.requests_open AS r
                          WHERE r.bucket = 0 AND r.lane = l.lane AND r.state = 'pending' AND isfinite(r.enqueued_at)
                          ORDER BY r.id LIMIT 1) AS first) AS oldest,
     (SELECT count(*) AS to_send, extract(epoch FROM clock_timestamp() - min(written))::bigint AS oldest_mail
      FROM (SELECT written FROM pointsd.outbox WHERE state IN ('waiting', 'sending') LIMIT $1) AS unsent) AS mails,
     (SELECT count(*) AS accounts
      FROM (SELECT 1 FROM pointsd.accounts WHERE in_arrears LIMIT $1) AS first) AS owing
