-- Keeps a document, unless its slot has one already.
-- $1 text: the report; $2 timestamptz: the slot; $3 bigint: the run; $4 text: the tone; $5 text: the headline; $6 jsonb: the
-- whole document; $7 text, $8 text: the host and the folder with its files
INSERT INTO pointsd.documents (report, slot, run, tone, headline, content, host, folder)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (report, slot) DO NOTHING
RETURNING document
