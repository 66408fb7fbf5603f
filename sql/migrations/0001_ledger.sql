-- The ledger: accounts, the batches of points they hold, and the entries of their history.
--
-- Every primary key and unique index begins with user_id, so that the three tables can be distributed by it.
-- There are no foreign keys: they would cost a look-up per row on the posting path, where the account's row lock
-- already guards what they would check. An orphan, should a hand have made one, is found and reported by the sweep.

-- One row per user, the lock that every change of the user's points takes first.
-- A posting changes no indexed column, so with half of each page kept free nearly every update is heap-only.
CREATE TABLE pointsd.accounts (
    user_id         uuid    NOT NULL,
    balance         bigint  NOT NULL,
    total_recharged bigint  NOT NULL,
    total_consumed  bigint  NOT NULL,
    total_expired   bigint  NOT NULL,
    last_seq        bigint  NOT NULL, -- number of the account's last entry
    last_batch      integer NOT NULL, -- number of the account's last batch
    CONSTRAINT accounts_pkey PRIMARY KEY (user_id),
    CONSTRAINT accounts_balance_is_the_sum CHECK (balance = total_recharged - total_consumed - total_expired),
    CONSTRAINT accounts_totals_not_negative CHECK (total_recharged >= 0 AND total_consumed >= 0 AND total_expired >= 0),
    CONSTRAINT accounts_numbers_not_negative CHECK (last_seq >= 0 AND last_batch >= 0)
) WITH (fillfactor = 50);

-- Points recharged together. `open` is the mark that indexes look at: it changes once in a batch's life, so a draw,
-- which changes `remaining` alone, touches no index.
CREATE TABLE pointsd.batches (
    user_id    uuid        NOT NULL,
    amount     bigint      NOT NULL,
    remaining  bigint      NOT NULL,
    opened_at  timestamptz NOT NULL, -- effective time of the recharge
    expires_at timestamptz NOT NULL, -- first instant at which the points are gone
    batch      integer     NOT NULL, -- 1, 2, 3 … within the account, in order of creation
    open       boolean     NOT NULL,
    source     text        NOT NULL,
    CONSTRAINT batches_pkey PRIMARY KEY (user_id, batch),
    CONSTRAINT batches_number_positive CHECK (batch > 0),
    CONSTRAINT batches_remaining_within_amount CHECK (remaining >= 0 AND remaining <= amount),
    CONSTRAINT batches_open_while_points_remain CHECK (open = (remaining > 0)),
    CONSTRAINT batches_expire_after_opening CHECK (expires_at > opened_at)
) WITH (fillfactor = 80);

-- A posting asks for the open batches of its accounts, the sweep for the accounts with open batches that are due. The
-- second index only includes the user: with it as a key column, a plan made on empty tables takes that index for a
-- posting too, and then reads every open batch of the ledger for it.
CREATE INDEX batches_open_by_user ON pointsd.batches (user_id, expires_at) WHERE open;
CREATE INDEX batches_open_by_expiry ON pointsd.batches (expires_at) INCLUDE (user_id) WHERE open;

-- The history: numbered without gaps within an account, chained by its balances, never changed.
CREATE TABLE pointsd.entries (
    user_id           uuid        NOT NULL,
    seq               bigint      NOT NULL, -- 1, 2, 3 … within the account
    amount            bigint      NOT NULL,
    balance_before    bigint      NOT NULL,
    balance_after     bigint      NOT NULL,
    at                timestamptz NOT NULL, -- when the thing happened, as the caller says
    recorded_at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- read while the table is locked: see ledger::cutoff
    key               uuid,                 -- version-5 UUID of the posting's key; null for an expiry
    batch             integer,              -- the batch that a recharge opened
    drawing_rule      smallint    NOT NULL, -- version of the rule by which points were allocated to batches
    type              text        NOT NULL,
    source_type       text        NOT NULL, -- a recharge's or an expired batch's source, or the kind of service used
    source_id         text,                 -- the order or the task
    description       text        NOT NULL,
    duration          numeric,              -- seconds, where the service is charged by time
    allocated_batches integer[]   NOT NULL, -- batches drawn, settled or expired …
    allocated_points  bigint[]    NOT NULL, -- … and how many points of each
    CONSTRAINT entries_pkey PRIMARY KEY (user_id, seq),
    CONSTRAINT entries_seq_positive CHECK (seq > 0),
    CONSTRAINT entries_amount_positive CHECK (amount > 0),
    CONSTRAINT entries_type_known CHECK (type IN ('recharge', 'consume', 'expire')),
    CONSTRAINT entries_balances_chain
        CHECK (balance_after = balance_before + CASE type WHEN 'recharge' THEN amount ELSE -amount END),
    CONSTRAINT entries_allocations_paired CHECK (cardinality(allocated_batches) = cardinality(allocated_points)),
    CONSTRAINT entries_batch_of_recharge CHECK ((batch IS NOT NULL) = (type = 'recharge'))
);

-- Idempotency's backstop (the account's lock already serialises it). Sixteen bytes stand for the key, because a wide
-- text index halves the posting rate; expiries have no key and stay out.
CREATE UNIQUE INDEX entries_key_once ON pointsd.entries (user_id, key) WHERE key IS NOT NULL;

CREATE FUNCTION pointsd.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of ledger.% is refused: history is never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Post an entry that corrects it.';
END
$$;

CREATE TRIGGER entries_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON pointsd.entries
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change();
ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change;
