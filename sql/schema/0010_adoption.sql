-- What was taken over from the tables of another service: a copy of them as one snapshot showed them, what the ledger is to open with,
-- and the keys of what was posted there.
--
-- Copies hold what the other service wrote, right or wrong, so their columns have no constraints: null stands for a value that cannot
-- be read as what it should be. Only a plan writes the copies; nothing writes to them once it is applied.

-- The plan; one row at most.
CREATE TABLE pointsd.adoption (
    only_one      boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (only_one),
    plan          uuid        NOT NULL, -- names it in the file of the plan
    read_at       timestamptz NOT NULL, -- instant of the snapshot, by the clock of the other service's database
    planned_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    read_from     text        NOT NULL, -- without password
    settings      jsonb       NOT NULL, -- mapping and decisions
    totals        jsonb       NOT NULL, -- control totals, before and after
    state         text        NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'applying', 'applied')),
    applied_to    uuid,                 -- applying: the account up to which the openings are posted
    applied_at    timestamptz,
    followed_to   bigint,               -- the transaction there up to which all are known; null before any was followed
    CHECK ((applied_at IS NOT NULL) = (state = 'applied'))
);

-- Accounts there. The lifetime totals stay beside those of the ledger, because entries make up the latter.
CREATE TABLE pointsd.adopted_accounts (
    user_id         uuid,
    balance         bigint,
    total_recharged bigint,
    total_consumed  bigint,
    total_expired   bigint,
    opened_at       timestamptz,
    old_user        text -- what the other service calls the user; null where that is the UUID
);

-- Batches there.
CREATE TABLE pointsd.adopted_batches (
    user_id    uuid,
    amount     bigint,
    remaining  bigint,
    opened_at  timestamptz,
    expires_at timestamptz,
    paid       bigint, -- for the whole batch, in minor units
    id         text,
    source     text,
    currency   text
);

-- The history there.
CREATE TABLE pointsd.adopted_transactions (
    user_id        uuid,
    id             bigint,
    amount         bigint, -- the type tells the direction
    balance_before bigint,
    balance_after  bigint,
    at             timestamptz,
    type           text, -- recharge, consume or expire; another one as the other service calls it
    source_type    text,
    source_id      text,
    duration       numeric,
    description    text
);
-- What identifies a row to a subscriber of changes: copies may repeat, so they have no primary key.
ALTER TABLE pointsd.adopted_accounts REPLICA IDENTITY FULL;
ALTER TABLE pointsd.adopted_batches REPLICA IDENTITY FULL;
ALTER TABLE pointsd.adopted_transactions REPLICA IDENTITY FULL;

-- The keys of the recharges and consumes there, each with the first transaction that has it. They are written when the plan is applied,
-- before the first opening: a task that is sent again from then on replays.
CREATE TABLE pointsd.adopted_keys (
    key         uuid     NOT NULL, -- pointsd.key_id of user and default key
    transaction bigint   NOT NULL,
    bucket      smallint NOT NULL DEFAULT 0, -- the account's
    CONSTRAINT adopted_keys_pkey PRIMARY KEY (bucket, key)
);

-- What the plan found of each account.
CREATE TABLE pointsd.adopted_positions (
    user_id         uuid        NOT NULL PRIMARY KEY,
    balance         bigint      NOT NULL, -- there; 0 where there is no account
    batch_points    bigint      NOT NULL, -- what remains in its batches
    expired         bigint      NOT NULL, -- of these, in batches that were due when they were read
    charged_twice   bigint      NOT NULL, -- of its debts, by the expiry of points that had paid them
    posted_twice    bigint      NOT NULL, -- recharges and consumes under a key that an earlier one has …
    posted_twice_by bigint      NOT NULL, -- … and their points
    breaks          bigint      NOT NULL, -- transactions that do not begin where the one before ended, or do not add up …
    breaks_by       bigint      NOT NULL, -- … and by how many points
    ends_at         bigint,               -- the balance after the last transaction
    recharged       bigint      NOT NULL, -- by the transactions
    consumed        bigint      NOT NULL,
    expired_before  bigint      NOT NULL,
    owing_since     timestamptz,          -- when the balance fell below zero for the last time
    account_rows    bigint      NOT NULL, -- rows of accounts there that name the user; 0: batches or transactions without an account
    is_account      boolean     NOT NULL  -- one row, and its balance can be read; any other account is left out
);

-- What each account is to open with, in the order of posting.
CREATE TABLE pointsd.adopted_openings (
    user_id     uuid        NOT NULL,
    nth         integer     NOT NULL, -- 1, 2, 3 … within the account
    points      bigint      NOT NULL, -- below zero: a debt
    opened_at   timestamptz NOT NULL,
    expires_at  timestamptz,          -- of points; null: as the source says
    paid        bigint,               -- the part of the price that is not released yet
    is_forgiven boolean     NOT NULL, -- a recharge that gives back what was charged twice
    source      text,
    id          text,                 -- names the batch
    currency    text,
    CONSTRAINT adopted_openings_pkey PRIMARY KEY (user_id, nth)
);

-- The lifetime totals of an account in the other service; null where it was not taken over from there.
CREATE FUNCTION pointsd.adopted_totals(user_id uuid, OUT recharged bigint, OUT consumed bigint, OUT expired bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT max(o.total_recharged), max(o.total_consumed), max(o.total_expired) INTO recharged, consumed, expired
    FROM pointsd.adopted_accounts AS o
    WHERE o.user_id = adopted_totals.user_id AND EXISTS (SELECT FROM pointsd.adoption WHERE state <> 'planned');
END
$$;
REVOKE ALL ON FUNCTION pointsd.adopted_totals FROM PUBLIC;

-- Forgets a plan that was not applied, and drops the indexes of the copies, because rows without indexes are copied faster. Its locks
-- stop postings, so it waits for no reader that takes long, such as a backup.
CREATE FUNCTION pointsd.clear_adopted() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    DELETE FROM pointsd.adoption;
    TRUNCATE pointsd.adopted_accounts, pointsd.adopted_batches, pointsd.adopted_transactions, pointsd.adopted_positions,
        pointsd.adopted_openings;
    DROP INDEX IF EXISTS pointsd.adopted_accounts_by_user, pointsd.adopted_batches_by_user, pointsd.adopted_transactions_by_id,
        pointsd.adopted_transactions_by_user;
END
$$;
REVOKE ALL ON FUNCTION pointsd.clear_adopted FROM PUBLIC;

-- Makes the indexes of the copies.
CREATE FUNCTION pointsd.index_adopted() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CREATE INDEX adopted_accounts_by_user ON pointsd.adopted_accounts (user_id);
    CREATE INDEX adopted_batches_by_user ON pointsd.adopted_batches (user_id);
    CREATE UNIQUE INDEX adopted_transactions_by_id ON pointsd.adopted_transactions (id);
    CREATE INDEX adopted_transactions_by_user ON pointsd.adopted_transactions (user_id, at, id);
END
$$;
REVOKE ALL ON FUNCTION pointsd.index_adopted FROM PUBLIC;
SELECT pointsd.index_adopted();

-- Once a plan is being applied, what it was made of stays as it is.
CREATE FUNCTION pointsd.refuse_change_of_adopted() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pointsd.adoption WHERE state <> 'planned') THEN
        RAISE EXCEPTION '% of pointsd.% is refused: what was taken over from another service is never changed', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation', HINT = 'Post what corrects it.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER adopted_accounts_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
CREATE TRIGGER adopted_batches_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_batches
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
CREATE TRIGGER adopted_transactions_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
CREATE TRIGGER adopted_positions_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_positions
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
CREATE TRIGGER adopted_openings_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_openings
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
CREATE TRIGGER adopted_keys_never_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pointsd.adopted_keys
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change_of_adopted();
