-- The outbox: a mail is stored in the same transaction as the document that it shows, and leaves afterwards.

CREATE TABLE pointsd.outbox (
    mail       bigint      GENERATED ALWAYS AS IDENTITY,
    document   bigint      NOT NULL,
    report     text        NOT NULL,
    slot       timestamptz NOT NULL,
    recipient  text        NOT NULL,           -- the address
    name       text        NOT NULL DEFAULT '', -- the recipient's name; empty where none is given
    resend     integer     NOT NULL DEFAULT 0, -- 0: the first mail; 1, 2 …: sent again by hand
    message_id text        NOT NULL,           -- the same for every attempt
    state      text        NOT NULL DEFAULT 'waiting',
    attempts   integer     NOT NULL DEFAULT 0, -- only grows: it is the fencing token of an attempt
    written    timestamptz NOT NULL DEFAULT statement_timestamp(),
    due        timestamptz NOT NULL DEFAULT statement_timestamp(), -- not tried before
    held_until timestamptz,                    -- while it is being sent: the end of the sender's lease
    sent       timestamptz,
    answer     text,                           -- the last answer of the mail server, or the last error
    CONSTRAINT outbox_pkey PRIMARY KEY (mail),
    CONSTRAINT outbox_once UNIQUE (report, slot, recipient, resend),
    CONSTRAINT outbox_state_known CHECK (state IN ('waiting', 'sending', 'sent', 'parked')),
    CONSTRAINT outbox_held_while_sending CHECK ((held_until IS NOT NULL) = (state = 'sending')),
    CONSTRAINT outbox_sent_at CHECK ((sent IS NOT NULL) = (state = 'sent'))
);
-- Finds the next mails to send.
CREATE INDEX outbox_to_send ON pointsd.outbox (due) WHERE state IN ('waiting', 'sending');
-- Counts the mails that failed too often.
CREATE INDEX outbox_parked ON pointsd.outbox (mail) WHERE state = 'parked';
-- Finds the mails of a document.
CREATE INDEX outbox_by_document ON pointsd.outbox (document);
