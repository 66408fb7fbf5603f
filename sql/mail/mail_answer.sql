-- Why the last of a document's mails that have not left did not, as far as somebody said.
-- $1 bigint: the document
SELECT answer FROM mail.outbox WHERE document = $1 AND state <> 'sent' AND answer IS NOT NULL ORDER BY mail DESC LIMIT 1
