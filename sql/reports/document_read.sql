-- The content of a document.
-- $1 bigint: its number
SELECT content FROM pointsd.documents WHERE document = $1
