-- Locks a document before it is sent again. So two resends at once get different numbers, and the document is not deleted.
-- $1 bigint: its number
SELECT report, slot FROM pointsd.documents WHERE document = $1 FOR UPDATE
