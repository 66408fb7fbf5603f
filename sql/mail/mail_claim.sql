-- Takes the mail that is due for longest, or whose holder is given up, for so long that no delivery lasts longer. A row
-- whose lock is held is somebody else's.
-- How long one holds a mail is judged by the database's clock, because daemons' clocks may differ.
-- MATERIALIZED: as a subquery it may be asked once for each row of the table, and would take another mail each time.
-- $1 timestamptz: now, as the caller sees it; $2 bigint: for how many milliseconds; $3 bigint: only of this document, or null
WITH next AS MATERIALIZED (
    SELECT mail FROM pointsd.outbox
    WHERE state IN ('waiting', 'sending')
      AND (state = 'waiting' AND due <= $1::timestamptz OR state = 'sending' AND held_until <= clock_timestamp())
      AND ($3::bigint IS NULL OR document = $3)
    ORDER BY due, mail
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE pointsd.outbox AS o
SET state = 'sending', attempts = o.attempts + 1,
    held_until = clock_timestamp() + $2::bigint * interval '1 millisecond'
FROM next
WHERE o.mail = next.mail
RETURNING o.mail, o.document, o.report, o.recipient, o.name, o.resend, o.message_id, o.attempts, o.written
