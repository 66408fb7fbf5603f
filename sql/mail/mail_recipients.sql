-- Lists the recipients of a document, with their latest name and the number of their next resend.
-- $1 bigint: the document
SELECT recipient, (array_agg(name ORDER BY mail DESC))[1], max(resend) + 1
FROM pointsd.outbox
WHERE document = $1
GROUP BY recipient
ORDER BY min(mail)
