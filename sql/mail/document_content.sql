-- What a mail tells, and where the files are that belong to it.
-- $1 bigint: the document
SELECT content::text, host, folder FROM pointsd.documents WHERE document = $1
