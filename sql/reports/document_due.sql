-- How it stands with reports that ought to be there by now. A mail that was parked counts no more once a later one of the
-- same document was sent: whoever asked for that one has seen to it. Mails that were written down together are of one
-- moment, and say nothing of each other.
-- $1 text[], $2 timestamptz[]: report and slot, pairwise; $3 text: with what the reason of a slot begins that was skipped
-- during a pause
SELECT w.report, w.slot, j.since,
       -- What a rule skipped or nobody ran is missing all the same; what came due during a pause was left out by somebody.
       j.paused_at IS NOT NULL OR coalesce(r.state = 'skipped' AND starts_with(r.why, $3::text), false) AS paused,
       u.started AS running_since, d.document, m.waiting_since, m.waiting, m.parked, m.answer
FROM unnest($1::text[], $2::timestamptz[]) AS w (report, slot)
JOIN pointsd.jobs AS j ON j.job = w.report
LEFT JOIN pointsd.runs AS r ON r.job = w.report AND r.slot = w.slot AND r.trigger <> 'manual'
LEFT JOIN pointsd.runs AS u ON u.job = w.report AND u.slot = w.slot AND u.state = 'running'
LEFT JOIN pointsd.documents AS d ON d.report = w.report AND d.slot = w.slot
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE o.state IN ('waiting', 'sending')) AS waiting,
           min(o.written) FILTER (WHERE o.state IN ('waiting', 'sending')) AS waiting_since,
           count(*) FILTER (WHERE o.state = 'parked' AND NOT later.sent) AS parked,
           max(o.answer) FILTER (WHERE o.state <> 'sent' AND NOT later.sent) AS answer
    FROM pointsd.outbox AS o
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM pointsd.outbox AS s
        WHERE s.document = o.document AND s.written > o.written AND s.state = 'sent') AS sent) AS later
    WHERE o.document = d.document
) AS m
