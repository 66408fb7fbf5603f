-- The ledger: accounts, the batches of points that they hold, and the entries of their history.
--
-- `bucket` says in which part of the ledger an account lies. On one plain server there is one bucket, 0. On several
-- servers a bucket lies on one of them with all its rows, so every key and every index that a posting uses begins with it.
--
-- There are no foreign keys: each would cost a look-up a row, and the account's row lock already guards what it would
-- check. Rows without an account, left by changes by hand, are found by the sweep and the proofs.
--
-- Columns stand by size, the fixed ones first, so that no space is lost between them.

-- The number of buckets: 1, or another power of two up to 256; which they are; and in which one a user's account lies: by the first byte of
-- the SHA-256 of the user, as the library computes it. These are functions and no row, because the planner takes them for constants. Only
-- pointsd.set_buckets changes them.
CREATE FUNCTION pointsd.buckets() RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1::smallint;
CREATE FUNCTION pointsd.all_buckets() RETURNS smallint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '{0}'::smallint[];
CREATE FUNCTION pointsd.bucket_of(user_id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 0::smallint;

-- One row a user. Every change of the user's points locks this row first.
-- A posting changes no indexed column, and half of each page is kept free: so nearly every update is heap-only.
CREATE TABLE pointsd.accounts (
    user_id         uuid     NOT NULL,
    balance         bigint   NOT NULL, -- below zero: arrears
    total_recharged bigint   NOT NULL,
    total_consumed  bigint   NOT NULL,
    total_expired   bigint   NOT NULL, -- net of what was restored
    total_refunded  bigint   NOT NULL DEFAULT 0,
    total_voided    bigint   NOT NULL DEFAULT 0,
    total_adjusted  bigint   NOT NULL DEFAULT 0, -- by adjust entries; below zero where they took points away
    total_opening   bigint   NOT NULL DEFAULT 0, -- what the account brought along from elsewhere; below zero: a debt
    last_seq        bigint   NOT NULL, -- number of the account's last entry
    -- The latest expires_at of a batch that expired with points in it. Only a consume from before it can find points to
    -- restore, so only then a posting looks for such batches.
    expired_until   timestamptz,
    last_batch      integer  NOT NULL, -- number of the account's last batch
    open_holds      integer  NOT NULL DEFAULT 0, -- holds that are neither captured nor released; without any, no posting looks
    bucket          smallint NOT NULL DEFAULT 0,
    in_arrears      boolean  GENERATED ALWAYS AS (balance < 0) STORED,
    CONSTRAINT accounts_pkey PRIMARY KEY (bucket, user_id),
    -- Stands behind a program that knows another number of buckets. Written out: a call of pointsd.bucket_of takes longer to prepare.
    CONSTRAINT accounts_in_own_bucket CHECK (bucket = 0),
    CONSTRAINT accounts_balance_is_the_sum
        CHECK (balance = total_opening + total_recharged - total_consumed - total_expired + total_refunded - total_voided + total_adjusted),
    CONSTRAINT accounts_totals_not_negative
        CHECK (least(total_recharged, total_consumed, total_expired, total_refunded, total_voided) >= 0),
    CONSTRAINT accounts_numbers_not_negative CHECK (last_seq >= 0 AND last_batch >= 0 AND open_holds >= 0)
) WITH (fillfactor = 50);

-- The next users of a bucket after one, in order; after null the first ones, nil among them. The lower bound is for the index.
CREATE FUNCTION pointsd.next_users(bucket smallint, after uuid, most bigint) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT a.user_id FROM pointsd.accounts AS a
    WHERE a.bucket = next_users.bucket
      AND a.user_id >= coalesce(next_users.after, '00000000-0000-0000-0000-000000000000')
      AND (next_users.after IS NULL OR a.user_id > next_users.after)
    ORDER BY a.user_id
    LIMIT next_users.most;
END
$$;

-- Finds the accounts in arrears. The mark changes only when an account falls into arrears or leaves them. With an index on
-- the balance, every posting would write to it.
CREATE INDEX accounts_in_arrears ON pointsd.accounts (bucket, user_id) WHERE in_arrears;

-- The share of a price that `points` of `amount` points have after `gone` others, in whole minor units: all parts add up to the
-- price. Numeric, because a product of the two may pass 64 bits, and `div`, because `/` rounds.
CREATE FUNCTION pointsd.price_part(paid numeric, gone numeric, points numeric, amount numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN div($1 * ($2 + $3), nullif($4, 0)) - div($1 * $2, nullif($4, 0));

-- Points that came in together. `open` is the mark that the indexes use. It changes once in a batch's life, so a consume,
-- which changes only `remaining`, touches no index.
CREATE TABLE pointsd.batches (
    user_id    uuid        NOT NULL,
    amount     bigint      NOT NULL,
    remaining  bigint      NOT NULL,
    expired    bigint      NOT NULL DEFAULT 0, -- points that expired, less those that were restored
    opened_at  timestamptz NOT NULL, -- effective time of the recharge, the refund or the opening
    expires_at timestamptz NOT NULL, -- first instant at which the points are gone
    batch      integer     NOT NULL, -- 1, 2, 3 … within the account, in order of creation
    bucket     smallint    NOT NULL DEFAULT 0, -- the account's
    open       boolean     NOT NULL,
    source     text        NOT NULL,
    -- Its price in minor units; both null without one. Points that are gone have released their share of it, rounded down.
    paid       bigint,
    currency   text,
    CONSTRAINT batches_pkey PRIMARY KEY (bucket, user_id, batch),
    CONSTRAINT batches_number_positive CHECK (batch > 0),
    CONSTRAINT batches_remaining_within_amount CHECK (remaining >= 0 AND remaining <= amount),
    CONSTRAINT batches_expired_within_amount CHECK (expired >= 0 AND expired <= amount),
    CONSTRAINT batches_open_while_points_remain CHECK (open = (remaining > 0)),
    CONSTRAINT batches_expire_after_opening CHECK (expires_at > opened_at),
    CONSTRAINT batches_paid_in_a_currency CHECK ((paid IS NULL) = (currency IS NULL) AND paid >= 0),
    CONSTRAINT batches_expire_at_an_instant CHECK (isfinite(expires_at) AND isfinite(opened_at))
) WITH (fillfactor = 80);

-- A posting asks for the open batches of its accounts.
CREATE INDEX batches_open_by_user ON pointsd.batches (bucket, user_id, expires_at) WHERE open;
-- The sweep asks for the accounts with open batches that are due. The user is only included. With the user as a key column,
-- a plan made on empty tables takes this index for a posting too, and then reads every open batch of the ledger for it.
CREATE INDEX batches_open_by_expiry ON pointsd.batches (bucket, expires_at) INCLUDE (user_id) WHERE open;

-- The history: numbered without gaps within an account, chained by its balances, never changed.
--
-- An opening is what an account brought along from elsewhere: a batch of points that were left, or a debt, which opens no batch.
--
-- An adjust entry is posted by a person, never by a job. Its amount is what it moves the balance by, up or down. An amount
-- of 0 records that rows were set back to what the history says.
CREATE TABLE pointsd.entries (
    user_id           uuid        NOT NULL,
    seq               bigint      NOT NULL, -- 1, 2, 3 … within the account
    amount            bigint      NOT NULL,
    balance_before    bigint      NOT NULL,
    balance_after     bigint      NOT NULL,
    at                timestamptz NOT NULL, -- when the thing happened, as the caller says
    recorded_at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- read while the table is locked: see ledger::cutoff
    run               bigint,               -- the run that wrote it: proves what the run says that it did
    refers_to         bigint,               -- of a refund its consume, of a void its recharge
    key               uuid,                 -- pointsd.key_id of user and idempotency key; null where no posting's first entry
    batch             integer,              -- the batch that a recharge, a refund or an opening of points opened
    drawing_rule      smallint    NOT NULL, -- version of the rule by which points were allocated to batches
    bucket            smallint    NOT NULL DEFAULT 0, -- the account's
    type              text        NOT NULL,
    source_type       text        NOT NULL, -- the kind of service used, or the source of the points
    source_id         text,                 -- the order or the task
    description       text,                 -- what the caller wrote for people, if anything
    duration          numeric,              -- seconds, where the service is charged by time
    allocated_batches integer[]   NOT NULL, -- batches drawn, settled, expired or restored …
    allocated_points  bigint[]    NOT NULL, -- … and how many points of each
    asked             jsonb,                -- of a refund's or a void's first entry: what was asked for (ledger::Asked)
    correction        jsonb,                -- what an adjust entry set right: before, after, by whom and why
    -- Money in minor units. Of a recharge, a refund or an opening what its batch opened with, of a void what goes back to the customer. What
    -- each allocation released of its batch's price, a restore gave back; null where no allocation has money.
    paid              bigint,
    currency          text,
    allocated_paid    bigint[],
    CONSTRAINT entries_pkey PRIMARY KEY (bucket, user_id, seq),
    -- Each statement prepares these anew, which takes a single posting longer than to check them. So no type is written twice.
    CONSTRAINT entries_seq_positive CHECK (seq > 0),
    CONSTRAINT entries_amount_positive CHECK (amount > 0 OR (correction IS NOT NULL AND amount = 0)),
    CONSTRAINT entries_balances_chain CHECK (
        CASE
            WHEN type IN ('consume', 'expire', 'void') THEN balance_after = balance_before - amount
            WHEN type IN ('recharge', 'refund', 'restore') THEN balance_after = balance_before + amount
            ELSE type IN ('adjust', 'opening') AND abs(balance_after - balance_before) = amount
        END),
    CONSTRAINT entries_allocations_paired CHECK (cardinality(allocated_batches) = cardinality(allocated_points)),
    CONSTRAINT entries_paid_in_a_currency
        CHECK ((paid IS NULL) = (currency IS NULL) AND cardinality(allocated_paid) = cardinality(allocated_points)),
    CONSTRAINT entries_batch_opened
        CHECK ((batch IS NOT NULL) = (type IN ('recharge', 'refund') OR type = 'opening' AND balance_after > balance_before)),
    CONSTRAINT entries_refer_to_earlier
        CHECK ((refers_to IS NOT NULL) = (type IN ('refund', 'void')) AND (refers_to IS NULL OR refers_to < seq)),
    CONSTRAINT entries_asked_of_return CHECK (asked IS NULL OR refers_to IS NOT NULL),
    CONSTRAINT entries_correction_of_adjust CHECK ((correction IS NOT NULL) = (type = 'adjust'))
);

-- Whether an entry opens a batch: of the openings those that move the balance up.
CREATE FUNCTION pointsd.opens_batch(type text, moves_up boolean) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN $1 IN ('recharge', 'refund') OR $1 = 'opening' AND $2;

-- Refuses a key that is posted twice. The account's lock already serialises postings, so this only stands behind it.
-- Sixteen bytes stand for user and key, because a wide text index halves the posting rate. With the user in them the index
-- needs no column for it and is a third smaller. Entries without a key stay out.
CREATE UNIQUE INDEX entries_key_once ON pointsd.entries (bucket, key) WHERE key IS NOT NULL;

-- Finds the refunds of a consume and the voids of a recharge.
CREATE INDEX entries_by_reference ON pointsd.entries (bucket, user_id, refers_to) WHERE refers_to IS NOT NULL;

-- Finds what a run wrote.
CREATE INDEX entries_by_run ON pointsd.entries (bucket, run) WHERE run IS NOT NULL;

-- Finds what was recorded lately. Entries lie in the order of their recording, so a summary of each stretch of pages is
-- enough, and it costs a posting nearly nothing.
CREATE INDEX entries_by_recording ON pointsd.entries USING brin (recorded_at) WITH (autosummarize = on);

-- Points reserved for work that is under way. A hold touches no batch and no entry: `open_holds` of the account counts it, and
-- what is available is less by it until `until`. The consume with the same key captures it.
CREATE TABLE pointsd.holds (
    user_id     uuid        NOT NULL,
    key         uuid        NOT NULL, -- pointsd.key_id of user and idempotency key: the same as that of the consume
    points      bigint      NOT NULL,
    at          timestamptz NOT NULL, -- when the points were reserved
    until       timestamptz NOT NULL, -- first instant at which they are not reserved any more; nothing sweeps it
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seq         bigint,               -- the consume that captured it
    bucket      smallint    NOT NULL DEFAULT 0, -- the account's
    state       text        NOT NULL DEFAULT 'open',
    source_type text        NOT NULL,
    source_id   text        NOT NULL,
    caller_key  text,                 -- the key of the caller's own, where the hold was made under one
    CONSTRAINT holds_pkey PRIMARY KEY (bucket, key),
    CONSTRAINT holds_points_positive CHECK (points > 0),
    CONSTRAINT holds_end_after_beginning CHECK (until > at AND isfinite(at) AND isfinite(until)),
    CONSTRAINT holds_state_known CHECK (state IN ('open', 'captured', 'released')),
    CONSTRAINT holds_captured_by_entry CHECK ((seq IS NOT NULL) = (state = 'captured'))
);
-- Finds the holds that stand, and those that are over by time but may still be captured.
CREATE INDEX holds_open_by_user ON pointsd.holds (bucket, user_id, until, key) WHERE state = 'open';

-- Tells the planner that all rows lie in one bucket. Without statistics it takes `bucket = 0` for a condition that few rows
-- meet, and a plan made while the tables are empty then ignores the user. The width of currencies counts, too: rows that it takes for
-- wide seem few. The statistics stay until the first ANALYZE. One of few rows would take the bucket for unique, or the batches of one
-- account for those of all; the numbers of distinct values stand for what it would count. Below zero: for each row.
ALTER TABLE pointsd.accounts ALTER COLUMN bucket SET (n_distinct = 1);
ALTER TABLE pointsd.batches ALTER COLUMN bucket SET (n_distinct = 1), ALTER COLUMN user_id SET (n_distinct = -0.1);
ALTER TABLE pointsd.entries ALTER COLUMN bucket SET (n_distinct = 1);
ALTER TABLE pointsd.holds ALTER COLUMN bucket SET (n_distinct = 1);
INSERT INTO pointsd.accounts (user_id, balance, total_recharged, total_consumed, total_expired, last_seq, last_batch)
SELECT gen_random_uuid(), 0, 0, 0, 0, 0, 0 FROM generate_series(1, 20);
INSERT INTO pointsd.batches (user_id, amount, remaining, opened_at, expires_at, batch, open, source, paid, currency)
SELECT gen_random_uuid(), 1, 1, now(), '9999-12-31Z', 1, true, '', 1, 'CNY' FROM generate_series(1, 20);
INSERT INTO pointsd.entries (user_id, seq, amount, balance_before, balance_after, at, drawing_rule, type, source_type,
                             allocated_batches, allocated_points)
SELECT gen_random_uuid(), 1, 1, 1, 0, now(), 0, 'expire', '', '{}', '{}' FROM generate_series(1, 20);
INSERT INTO pointsd.holds (user_id, key, points, at, until, source_type, source_id)
SELECT gen_random_uuid(), gen_random_uuid(), 1, now(), '9999-12-31Z', '', '' FROM generate_series(1, 20);
ANALYZE pointsd.accounts (bucket), pointsd.batches (bucket, currency), pointsd.entries (bucket), pointsd.holds (bucket);
SAVEPOINT sample;
TRUNCATE pointsd.accounts, pointsd.batches, pointsd.entries, pointsd.holds;
RELEASE SAVEPOINT sample;

-- Refuses what is no number of buckets.
CREATE FUNCTION pointsd.check_bucket_count(buckets smallint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (buckets IN (1, 2, 4, 8, 16, 32, 64, 128, 256)) IS NOT TRUE THEN
        RAISE EXCEPTION '% buckets: the number is 1, or another power of two up to 256', buckets
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- In which of so many buckets a user's account lies.
CREATE FUNCTION pointsd.bucket_in(user_id uuid, buckets smallint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE $2 WHEN 1 THEN 0 ELSE get_byte(sha256(uuid_send($1)), 0) % $2 END::smallint;

-- Sets the number of buckets of a ledger in which each account lies in its bucket already, such as one without accounts. The lock on the
-- accounts comes first, so that no posting is under way that knows the old number.
CREATE FUNCTION pointsd.set_buckets(buckets smallint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_users text;
    bucket text := CASE buckets WHEN 1 THEN '0' ELSE format('(get_byte(sha256(uuid_send(user_id)), 0) %% %s)', buckets) END;
BEGIN
    PERFORM pointsd.check_bucket_count(buckets);
    ALTER TABLE pointsd.accounts DROP CONSTRAINT IF EXISTS accounts_in_own_bucket;
    EXECUTE format('ALTER TABLE pointsd.accounts ADD CONSTRAINT accounts_in_own_bucket CHECK (bucket = %s)', bucket);
    -- Citus plans each statement for its parameters, and does not pass this on to its nodes.
    IF NOT pointsd.is_spread('pointsd.accounts') THEN
        FOREACH of_users IN ARRAY '{accounts,batches,entries,holds,checkpoints}'::text[] LOOP
            EXECUTE format('ALTER TABLE pointsd.%I ALTER COLUMN bucket SET (n_distinct = %s)', of_users, buckets);
        END LOOP;
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION pointsd.buckets() RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
                        RETURN %s::smallint', buckets);
    EXECUTE format('CREATE OR REPLACE FUNCTION pointsd.all_buckets() RETURNS smallint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
                        RETURN %L::smallint[]', ARRAY(SELECT generate_series(0, buckets - 1)));
    EXECUTE format('CREATE OR REPLACE FUNCTION pointsd.bucket_of(user_id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
                        RETURN %s::smallint', bucket);
END
$$;
REVOKE ALL ON FUNCTION pointsd.set_buckets, pointsd.check_bucket_count FROM PUBLIC;

CREATE FUNCTION pointsd.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of pointsd.% is refused: history is never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation',
              HINT = CASE WHEN starts_with(TG_TABLE_NAME, 'entries') THEN 'Post an entry that corrects it.'
                          ELSE 'Add a row that says what is true now.' END;
END
$$;

-- ALWAYS: it fires also where a replica or a restore switches ordinary triggers off.
CREATE TRIGGER entries_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON pointsd.entries
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change();
ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change;
