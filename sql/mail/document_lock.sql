-- A document that is to be sent again; locked, so that two who ask at once get two numbers, and nobody deletes it.
-- $1 bigint: its number
SELECT report, slot FROM pointsd.documents WHERE document = $1 FOR UPDATE
