-- Documents that are past their retention. A document with a mail still to be sent stays, and so does a locked one, which is
-- being sent again. The newest document of each report stays as well: it shows that the report was made.
-- $1 timestamptz: made before this instant; $2 bigint: how many at most
SELECT d.document, d.report, d.slot, d.host, d.folder
FROM pointsd.documents AS d
WHERE d.made < $1
  AND EXISTS (SELECT FROM pointsd.documents AS n WHERE n.report = d.report AND n.slot > d.slot)
  AND NOT EXISTS (SELECT FROM pointsd.outbox AS o WHERE o.document = d.document AND o.state IN ('waiting', 'sending'))
ORDER BY d.document
LIMIT $2
FOR UPDATE OF d SKIP LOCKED
