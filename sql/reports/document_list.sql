-- The newest documents first, each with its mails, without the content, which may be large.
-- $1 text: only of this report, or null; $2 bigint: only this document, or null; $3 bigint: only
-- with a lower number, or null; $4 bigint: how many at most
SELECT d.document, d.report, d.slot, d.run, d.made, d.tone, d.headline, d.host, d.folder,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'mail', o.mail, 'recipient', o.recipient, 'resend', o.resend, 'state', o.state, 'attempts', o.attempts,
                   'written', o.written, 'due', o.due, 'sent', o.sent, 'answer', o.answer) ORDER BY o.mail), '[]')
        FROM pointsd.outbox AS o
        WHERE o.document = d.document) AS mails
FROM pointsd.documents AS d
WHERE ($1::text IS NULL OR d.report = $1) AND ($2::bigint IS NULL OR d.document = $2)
  AND ($3::bigint IS NULL OR d.document < $3)
ORDER BY d.document DESC
LIMIT $4
