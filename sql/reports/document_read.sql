-- A whole document.
-- $1 bigint: its number
SELECT content FROM reports.documents WHERE document = $1
