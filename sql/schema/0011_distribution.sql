-- The move of all accounts to another number of buckets.
--
-- It is the owner's work, on a ledger at rest. While it is under way, nothing says which bucket an account lies in: every posting and
-- every read of an account is refused. It goes on where it was interrupted.

-- One row while the accounts move.
CREATE TABLE pointsd.distribution (
    one     boolean  NOT NULL DEFAULT true,
    buckets smallint NOT NULL, -- the number of buckets to which they move
    CONSTRAINT distribution_pkey PRIMARY KEY (one),
    CONSTRAINT distribution_is_one_row CHECK (one)
);

-- Begins the move, or finds that it was begun. Refuses while anything else is at work or open.
CREATE FUNCTION pointsd.begin_distribution(buckets smallint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begun smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
    others bigint;
    run record;
    findings bigint;
BEGIN
    IF begun <> buckets THEN
        RAISE EXCEPTION 'the accounts are moving to % buckets', begun
            USING ERRCODE = 'object_in_use', HINT = format('Finish that with %s buckets first.', begun);
    END IF;
    -- From here on nothing writes to the ledger: what is under way ends first, what comes later waits and is refused.
    LOCK TABLE pointsd.runs, pointsd.accounts, pointsd.batches, pointsd.entries, pointsd.holds, pointsd.checkpoints;
    SELECT count(*) INTO others FROM pg_stat_activity AS other
    WHERE other.datname = current_database() AND other.backend_type = 'client backend' AND other.pid <> pg_backend_pid();
    IF others > 0 THEN
        RAISE EXCEPTION 'other sessions are connected to the database: %', others
            USING ERRCODE = 'object_in_use', HINT = 'Stop the daemons, commands and applications, then call again.';
    END IF;
    SELECT r.run, r.job INTO run FROM pointsd.runs AS r WHERE r.finished IS NULL ORDER BY r.run LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'run % of % has not ended', run.run, run.job
            USING ERRCODE = 'object_in_use', HINT = 'Let a daemon end it, or cancel it.';
    END IF;
    SELECT count(*) INTO findings FROM pointsd.findings AS f WHERE f.resolved_at IS NULL;
    IF findings > 0 THEN
        RAISE EXCEPTION 'the books have exceptions: %', findings
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Set them right with `pointsd repair`, then call again.';
    END IF;
    IF begun IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pointsd.check_bucket_count(buckets);
    IF buckets = pointsd.buckets() THEN
        RAISE EXCEPTION 'the ledger has % buckets already', buckets USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO pointsd.distribution (buckets) VALUES (begin_distribution.buckets);
    ALTER TABLE pointsd.accounts DROP CONSTRAINT accounts_in_own_bucket;
    CREATE OR REPLACE FUNCTION pointsd.buckets() RETURNS smallint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
        'BEGIN PERFORM pointsd.refuse_while_moving(); END';
    CREATE OR REPLACE FUNCTION pointsd.all_buckets() RETURNS smallint[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
        'BEGIN PERFORM pointsd.refuse_while_moving(); END';
    CREATE OR REPLACE FUNCTION pointsd.bucket_of(user_id uuid) RETURNS smallint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
        'BEGIN PERFORM pointsd.refuse_while_moving(); END';
END
$$;

CREATE FUNCTION pointsd.refuse_while_moving() RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the accounts of this ledger are moving to other buckets'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Finish the move: call the command that began it again.';
END
$$;

-- Moves the accounts of a bucket that belong to another one, as far as they are among the next ones from a user on, with their
-- batches, entries and checkpoints. Returns the first user that it did not look at, or null at the end.
CREATE FUNCTION pointsd.move_accounts(bucket smallint, first uuid, accounts integer) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    count smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
    looked_at uuid[];
    moving uuid[];
BEGIN
    looked_at := ARRAY(SELECT a.user_id FROM pointsd.accounts AS a
                       WHERE a.bucket = move_accounts.bucket AND a.user_id >= move_accounts.first
                       ORDER BY a.user_id LIMIT move_accounts.accounts + 1);
    moving := ARRAY(SELECT u FROM unnest(looked_at[:accounts]) AS u WHERE pointsd.bucket_in(u, count) <> move_accounts.bucket);
    IF cardinality(moving) > 0 THEN
        -- To the end of the transaction, and for its own statements only.
        ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
        UPDATE pointsd.accounts AS n SET bucket = pointsd.bucket_in(n.user_id, count)
        WHERE n.bucket = move_accounts.bucket AND n.user_id = ANY (moving);
        UPDATE pointsd.batches AS n SET bucket = pointsd.bucket_in(n.user_id, count)
        WHERE n.bucket = move_accounts.bucket AND n.user_id = ANY (moving);
        UPDATE pointsd.entries AS n SET bucket = pointsd.bucket_in(n.user_id, count)
        WHERE n.bucket = move_accounts.bucket AND n.user_id = ANY (moving);
        UPDATE pointsd.checkpoints AS n SET bucket = pointsd.bucket_in(n.user_id, count)
        WHERE n.bucket = move_accounts.bucket AND n.user_id = ANY (moving);
        ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change;
    END IF;
    RETURN looked_at[accounts + 1];
END
$$;

-- Ends the move: holds, findings and old keys, which no index finds by the user, move at once; then the new number of buckets is in force. Fails by
-- accounts_in_own_bucket if an account was left behind.
CREATE FUNCTION pointsd.end_distribution() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    count smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
BEGIN
    UPDATE pointsd.holds AS h SET bucket = pointsd.bucket_in(h.user_id, count);
    UPDATE pointsd.findings AS f SET bucket = pointsd.bucket_in(f.user_id, count) WHERE f.user_id IS NOT NULL;
    ALTER TABLE pointsd.adopted_keys DISABLE TRIGGER adopted_keys_never_change;
    UPDATE pointsd.adopted_keys AS k SET bucket = pointsd.bucket_in(t.user_id, count)
    FROM pointsd.adopted_transactions AS t WHERE t.id = k.transaction;
    ALTER TABLE pointsd.adopted_keys ENABLE TRIGGER adopted_keys_never_change;
    DELETE FROM pointsd.distribution;
    PERFORM pointsd.set_buckets(count);
END
$$;

REVOKE ALL ON FUNCTION pointsd.begin_distribution, pointsd.move_accounts, pointsd.end_distribution FROM PUBLIC;
