-- The state of reports that are due. A parked mail no longer counts once a later mail of the same document was sent: an
-- operator has sent it again. Mails that were written together have the same time and do not replace each other.
-- $1 text[], $2 timestamptz[]: report and slot, pairwise; $3 text: the first words of the reason of a slot that was skipped
-- during a pause
SELECT w.report, w.slot, j.since,
       -- A slot that came due during a pause was left out on purpose. A slot that a rule skipped or no daemon ran was not.
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
