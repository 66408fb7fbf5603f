-- Deletes documents with their mails.
-- $1 bigint[]: the documents
WITH mails AS (DELETE FROM mail.outbox WHERE document = ANY ($1::bigint[]))
DELETE FROM reports.documents WHERE document = ANY ($1::bigint[])
