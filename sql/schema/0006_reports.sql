-- The reports that were made.

-- One document for a report and a slot, stored as it was first made: a repeated run of the slot changes nothing.
CREATE TABLE pointsd.documents (
    document bigint      GENERATED ALWAYS AS IDENTITY,
    report   text        NOT NULL, -- the name of the job
    slot     timestamptz NOT NULL,
    run      bigint      NOT NULL, -- the run that made it
    made     timestamptz NOT NULL DEFAULT statement_timestamp(),
    tone     text        NOT NULL,
    headline text        NOT NULL,
    content  jsonb       NOT NULL, -- the whole document
    host     text        NOT NULL, -- the machine with its files …
    folder   text        NOT NULL, -- … and their folder there
    CONSTRAINT documents_pkey PRIMARY KEY (document),
    CONSTRAINT documents_tone_known CHECK (tone IN ('good', 'attention', 'bad')),
    CONSTRAINT documents_one_per_slot UNIQUE (report, slot)
);

-- What the last report on arrears saw: who owed, and up to which entry. Also who owed nothing but had gone into arrears
-- or out of them shortly before, so that the next report, which looks at entries by the time of their recording and an
-- hour further back, counts no entry twice.
CREATE TABLE pointsd.arrears_seen (
    user_id uuid        NOT NULL,
    owed    bigint      NOT NULL,
    seq     bigint      NOT NULL, -- no later entry was seen that moved what the account owes
    moved   timestamptz,          -- when the last such entry was recorded; null: before the first report looked
    CONSTRAINT arrears_pkey PRIMARY KEY (user_id),
    CONSTRAINT arrears_not_negative CHECK (owed >= 0)
);

-- One row: what the last report on arrears closed with.
CREATE TABLE pointsd.arrears_closing (
    one      boolean     NOT NULL DEFAULT true,
    slot     timestamptz NOT NULL,
    as_of    timestamptz NOT NULL, -- the begin of the transaction whose snapshot it showed
    accounts bigint      NOT NULL,
    owed     bigint      NOT NULL,
    CONSTRAINT arrears_closing_pkey PRIMARY KEY (one),
    CONSTRAINT arrears_closing_is_one_row CHECK (one)
);

-- What the last report on expiry said would expire, a row for each day counted from its slot, and a first one of what was
-- due by then and still there. The three last columns are what entries recorded in the hour before it, as far as it saw them, did to these batches: the next report looks
-- at entries by the time of their recording and an hour further back, and takes off what was counted then.
CREATE TABLE pointsd.expiry_forecast (
    ends      timestamptz NOT NULL, -- batches that expire by then, after the row before
    slot      timestamptz NOT NULL, -- of the report
    as_of     timestamptz NOT NULL, -- the begin of the transaction whose snapshot it showed
    batches   bigint      NOT NULL,
    points    bigint      NOT NULL,
    recharged bigint      NOT NULL,
    spent     bigint      NOT NULL,
    expired   bigint      NOT NULL,
    CONSTRAINT forecast_pkey PRIMARY KEY (ends)
);

-- What entries of expiry, recorded in the hour before the last report on it, took as far as it saw them, by source and by
-- whether a sweep wrote them: the next report takes it off likewise.
CREATE TABLE pointsd.expired_seen (
    source   text    NOT NULL,
    by_sweep boolean NOT NULL,
    batches  bigint  NOT NULL,
    points   bigint  NOT NULL,
    CONSTRAINT expired_pkey PRIMARY KEY (source, by_sweep)
);
