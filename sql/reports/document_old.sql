-- Documents that have been kept for long enough. One with a mail that is still to be sent stays until that is over; so
-- does one that somebody has locked, because he asks for it to be sent again. The newest of each report stays: it tells
-- that the report was not missing.
-- $1 timestamptz: made before this instant; $2 bigint: how many at most
SELECT d.document, d.report, d.slot, d.host, d.folder
FROM pointsd.documents AS d
WHERE d.made < $1
  AND EXISTS (SELECT FROM pointsd.documents AS n WHERE n.report = d.report AND n.slot > d.slot)
  AND NOT EXISTS (SELECT FROM pointsd.outbox AS o WHERE o.document = d.document AND o.state IN ('waiting', 'sending'))
ORDER BY d.document
LIMIT $2
FOR UPDATE OF d SKIP LOCKED
