-- What an operator has to look at, in figures. One row.
SELECT (SELECT count(*) FROM pointsd.findings WHERE resolved_at IS NULL) AS findings,
       queue.pending, queue.waiting, queue.oldest,
       (SELECT count(*) FROM pointsd.requests
        WHERE state = 'refused' AND finished_at > clock_timestamp() - interval '1 day') AS refused,
       (SELECT count(*) FROM pointsd.requests WHERE state = 'parked') AS parked,
       mails.to_send, mails.oldest_mail, mails.parked_mails,
       owing.accounts, owing.points
FROM (SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'waiting') AS waiting,
             extract(epoch FROM clock_timestamp() - min(enqueued_at) FILTER (WHERE state = 'pending'))::bigint AS oldest
      FROM pointsd.requests WHERE state IN ('pending', 'waiting')) AS queue,
     (SELECT count(*) FILTER (WHERE state <> 'parked') AS to_send, count(*) FILTER (WHERE state = 'parked') AS parked_mails,
             extract(epoch FROM clock_timestamp() - min(written) FILTER (WHERE state <> 'parked'))::bigint AS oldest_mail
      FROM pointsd.outbox WHERE state IN ('waiting', 'sending', 'parked')) AS mails,
     (SELECT count(*) AS accounts, coalesce(sum(-balance::numeric), 0)::text AS points FROM pointsd.accounts
      WHERE bucket = 0 AND in_arrears) AS owing
