-- Loads the document of a mail, and where its files are.
-- $1 bigint: the document
SELECT content::text, host, folder FROM pointsd.documents WHERE document = $1
