-- Deletes documents with their mails.
-- $1 bigint[]: the documents
WITH mails AS (DELETE FROM pointsd.outbox WHERE document = ANY ($1::bigint[]))
DELETE FROM pointsd.documents WHERE document = ANY ($1::bigint[])
