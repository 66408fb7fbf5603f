-- What a mail tells, and where the files are that belong to it.
-- $1 bigint: the document
SELECT content::text, host, folder FROM reports.documents WHERE document = $1
