-- What proves the ledger: entries that set right what was found wrong, what was proved of each account, what was found,
-- and the books of each business day.

-- An adjust entry is posted by a person, never by a job. Its amount is what it moves the balance by, up or down, and may
-- be nothing: then it only records that rows were set back to what the history says.
ALTER TABLE ledger.accounts
    ADD COLUMN total_adjusted bigint NOT NULL DEFAULT 0, -- by adjust entries; below zero where they took points away
    DROP CONSTRAINT accounts_balance_is_the_sum,
    ADD CONSTRAINT accounts_balance_is_the_sum
        CHECK (balance = total_recharged - total_consumed - total_expired + total_adjusted);

ALTER TABLE ledger.entries
    ADD COLUMN correction jsonb, -- what an adjust entry set right: before, after, who and why
    DROP CONSTRAINT entries_type_known,
    DROP CONSTRAINT entries_amount_positive,
    DROP CONSTRAINT entries_balances_chain,
    ADD CONSTRAINT entries_type_known CHECK (type IN ('recharge', 'consume', 'expire', 'adjust')),
    ADD CONSTRAINT entries_amount_positive CHECK (amount > 0 OR (type = 'adjust' AND amount = 0)),
    ADD CONSTRAINT entries_balances_chain CHECK (
        CASE type
            WHEN 'recharge' THEN balance_after = balance_before + amount
            WHEN 'adjust' THEN abs(balance_after - balance_before) = amount
            ELSE balance_after = balance_before - amount
        END),
    ADD CONSTRAINT entries_correction_of_adjust CHECK ((correction IS NOT NULL) = (type = 'adjust'));

-- What was written lately is found by this: entries lie in the order in which they were recorded, so a summary of each
-- stretch of pages is enough, and it costs a posting nearly nothing.
CREATE INDEX entries_by_recording ON ledger.entries USING brin (recorded_at) WITH (autosummarize = on);

CREATE SCHEMA reports;

-- What was proved of an account: its history up to an entry, and what the account and its batches were then.
CREATE TABLE reports.checkpoints (
    user_id         uuid    NOT NULL,
    seq             bigint  NOT NULL, -- the last entry that was proved
    batches         integer NOT NULL, -- the account's last batch then
    balance         bigint  NOT NULL, -- after that entry
    total_recharged bigint  NOT NULL,
    total_consumed  bigint  NOT NULL,
    total_expired   bigint  NOT NULL,
    total_adjusted  bigint  NOT NULL,
    entries_print   numeric NOT NULL, -- fingerprint of what the entries say …
    batches_print   numeric NOT NULL, -- … of what never changes about the batches …
    drawn_print     numeric NOT NULL, -- … and of what had been taken from each batch
    CONSTRAINT checkpoints_pkey PRIMARY KEY (user_id)
);

-- What does not hold. A finding stands until a later proof no longer finds it.
CREATE TABLE reports.findings (
    finding    bigint      GENERATED ALWAYS AS IDENTITY,
    rule       text        NOT NULL, -- the name of the check in sql/checks
    user_id    uuid,                 -- null: the ledger as a whole
    batch      integer,              -- null: not about a batch
    seq        bigint,               -- null: not about an entry
    expected   text        NOT NULL,
    found      text        NOT NULL,
    since      timestamptz NOT NULL, -- when it was first found
    since_run  bigint      NOT NULL, -- by which run
    seen_run   bigint      NOT NULL, -- the last run that found it
    cured      timestamptz,          -- when it was found gone
    cured_run  bigint,
    CONSTRAINT findings_pkey PRIMARY KEY (finding),
    CONSTRAINT findings_cured_by_a_run CHECK ((cured IS NULL) = (cured_run IS NULL))
);
CREATE UNIQUE INDEX findings_stand_once
    ON reports.findings (rule, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), coalesce(batch, 0), coalesce(seq, 0))
    WHERE cured IS NULL;
CREATE INDEX findings_standing_by_user ON reports.findings (user_id) WHERE cured IS NULL;

-- One row: from when on entries have not been looked at, and when everything was last proved.
CREATE TABLE reports.proof (
    one         boolean     NOT NULL DEFAULT true,
    looked_from timestamptz,          -- the begin of the last proof that came to its end
    full_at     timestamptz,          -- the begin of the last full one
    CONSTRAINT proof_pkey PRIMARY KEY (one),
    CONSTRAINT proof_is_one_row CHECK (one)
);
INSERT INTO reports.proof DEFAULT VALUES;

-- The books of each business day that is over: what was recorded on it, by source of the batches concerned. Source ''
-- is what accounts owe, which belongs to no source. A day's rows are written once.
--   opening + recharged - settled - consumed - expired + adjusted = closing
CREATE TABLE reports.days (
    day       date   NOT NULL,
    source    text   NOT NULL,
    opening   bigint NOT NULL,
    recharged bigint NOT NULL, -- nothing for ''
    settled   bigint NOT NULL, -- recharged points that paid arrears at once; for '' below zero: it grows by them
    consumed  bigint NOT NULL, -- for '': what consumes took beyond the points that were there
    expired   bigint NOT NULL,
    adjusted  bigint NOT NULL,
    closing   bigint NOT NULL,
    CONSTRAINT days_pkey PRIMARY KEY (day, source),
    CONSTRAINT days_add_up CHECK (closing = opening + recharged - settled - consumed - expired + adjusted)
);
