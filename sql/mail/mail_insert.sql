-- Inserts mails, one for each recipient; returns the numbers of the new ones. A recipient that has a mail with this resend number
-- gets no second one: a slot that is done again mails nothing again.
-- $1 bigint: the document; $2 text, $3 timestamptz: its report and slot; $4 text[], $5 text[]: address and name of each
-- recipient; $6 integer[]: the number of the resend, 0 for the first time; $7 text[]: the Message-ID
INSERT INTO pointsd.outbox (document, report, slot, recipient, name, resend, message_id)
SELECT $1::bigint, $2::text, $3::timestamptz, r.recipient, r.name, r.resend, r.message_id
FROM unnest($4::text[], $5::text[], $6::integer[], $7::text[]) AS r (recipient, name, resend, message_id)
ON CONFLICT ON CONSTRAINT outbox_once DO NOTHING
RETURNING mail
