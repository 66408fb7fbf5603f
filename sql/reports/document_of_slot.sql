-- The document of a slot.
-- $1 text: the report; $2 timestamptz: the slot
SELECT document FROM pointsd.documents WHERE report = $1 AND slot = $2
