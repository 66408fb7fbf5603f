-- The reports that were made.

-- One document for a report and a slot, kept as it was first made: doing a slot again changes nothing.
CREATE TABLE reports.documents (
    document bigint      GENERATED ALWAYS AS IDENTITY,
    report   text        NOT NULL, -- the name of the job
    slot     timestamptz NOT NULL,
    run      bigint      NOT NULL, -- the run that made it
    made     timestamptz NOT NULL DEFAULT statement_timestamp(),
    tone     text        NOT NULL,
    headline text        NOT NULL,
    content  jsonb       NOT NULL, -- the whole document
    host     text        NOT NULL, -- where its files are …
    folder   text        NOT NULL, -- … and in which folder there
    CONSTRAINT documents_pkey PRIMARY KEY (document),
    CONSTRAINT documents_tone_known CHECK (tone IN ('good', 'attention', 'bad')),
    CONSTRAINT documents_one_per_slot UNIQUE (report, slot)
);

-- Who was in arrears when the last report on them was made: by this the next one tells who is new and who is cured.
CREATE TABLE reports.arrears (
    user_id uuid   NOT NULL,
    owed    bigint NOT NULL,
    CONSTRAINT arrears_pkey PRIMARY KEY (user_id),
    CONSTRAINT arrears_positive CHECK (owed > 0)
);

-- Who is in arrears is found by a mark that changes only when an account falls into them or leaves them: an index on the
-- balance itself would have every posting write to it.
ALTER TABLE ledger.accounts ADD COLUMN in_arrears boolean GENERATED ALWAYS AS (balance < 0) STORED;
CREATE INDEX accounts_in_arrears ON ledger.accounts (user_id) WHERE in_arrears;
