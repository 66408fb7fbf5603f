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

-- Lists the last documents of a report.
CREATE INDEX documents_by_report ON pointsd.documents (report, document);

-- One row: what the last report on arrears closed with.
CREATE TABLE pointsd.arrears_closing (
    one      boolean     NOT NULL DEFAULT true,
    slot     timestamptz NOT NULL,
    as_of    timestamptz NOT NULL, -- the instant that it showed: the next report begins after it
    accounts bigint      NOT NULL,
    owed     bigint      NOT NULL, -- by the account balances
    booked   bigint      NOT NULL, -- by the entries: the same, unless a hand changed a row
    CONSTRAINT arrears_closing_pkey PRIMARY KEY (one),
    CONSTRAINT arrears_closing_is_one_row CHECK (one)
);

-- What the last report on expiry forecast: a row for each day counted from its slot, and a first one of what was due by then
-- and still there.
CREATE TABLE pointsd.expiry_forecast (
    ends    timestamptz NOT NULL, -- batches that expire by then, after the row before
    slot    timestamptz NOT NULL, -- its days are counted from
    as_of   timestamptz NOT NULL, -- the instant that it showed: the next report begins after it
    batches bigint      NOT NULL,
    points  bigint      NOT NULL,
    CONSTRAINT forecast_pkey PRIMARY KEY (ends)
);

-- One row: the last business day whose roll-forward a report on reconciliation has shown. The next report begins after it.
CREATE TABLE pointsd.days_reported (
    one   boolean     NOT NULL DEFAULT true,
    day   date        NOT NULL,
    as_of timestamptz NOT NULL, -- the instant that the report showed
    CONSTRAINT days_reported_pkey PRIMARY KEY (one),
    CONSTRAINT days_reported_is_one_row CHECK (one)
);
