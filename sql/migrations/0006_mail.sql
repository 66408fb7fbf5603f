-- The outbox: mails are written down with what they tell, in one transaction, and leave afterwards.

CREATE TABLE pointsd.outbox (
    mail       bigint      GENERATED ALWAYS AS IDENTITY,
    document   bigint      NOT NULL,
    report     text        NOT NULL,
    slot       timestamptz NOT NULL,
    recipient  text        NOT NULL,           -- the address
    name       text        NOT NULL DEFAULT '', -- whose it is; empty where nobody said
    resend     integer     NOT NULL DEFAULT 0, -- 0: by itself; 1, 2 …: because somebody asked for it again
    message_id text        NOT NULL,           -- the same for every attempt
    state      text        NOT NULL DEFAULT 'waiting',
    attempts   integer     NOT NULL DEFAULT 0, -- only grows: who holds the mail under an older number writes no failure
    written    timestamptz NOT NULL DEFAULT statement_timestamp(),
    due        timestamptz NOT NULL DEFAULT statement_timestamp(), -- not tried before
    held_until timestamptz,                    -- while one tries to send it: when he is given up
    sent       timestamptz,
    answer     text,                           -- what the server, or whatever failed, said last
    CONSTRAINT outbox_pkey PRIMARY KEY (mail),
    CONSTRAINT outbox_once UNIQUE (report, slot, recipient, resend),
    CONSTRAINT outbox_state_known CHECK (state IN ('waiting', 'sending', 'sent', 'parked')),
    CONSTRAINT outbox_held_while_sending CHECK ((held_until IS NOT NULL) = (state = 'sending')),
    CONSTRAINT outbox_sent_at CHECK ((sent IS NOT NULL) = (state = 'sent'))
);
CREATE INDEX outbox_to_send ON pointsd.outbox (due) WHERE state IN ('waiting', 'sending');
CREATE INDEX outbox_by_document ON pointsd.outbox (document);
