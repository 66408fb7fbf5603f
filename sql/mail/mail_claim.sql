-- Claims the mail that is due for longest, or one whose lease has ended. No delivery lasts longer than the lease. Rows that
-- another daemon has locked are skipped.
-- Leases go by the database's clock, because the clocks of daemons may differ.
-- MATERIALIZED: a plain subquery may run once for each row of the table, and would claim another mail each time.
-- $1 timestamptz: now, by the caller's clock; $2 bigint: the lease in milliseconds; $3 bigint: only of this document, or null
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
