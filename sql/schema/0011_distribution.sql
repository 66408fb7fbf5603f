-- The move of all accounts to another number of buckets, and the spread of their tables over the nodes of a Citus cluster.
--
-- It is the owner's work, on a ledger at rest. While it is under way, nothing says which bucket an account lies in: every posting and
-- every read of an account is refused. It goes on where it was interrupted.
--
-- On a cluster, what belongs to an account lies on the node of its bucket. All else stays on the coordinator, which every session
-- connects to. The functions of Citus are called by EXECUTE: they exist in few databases.

-- Whether the database has the extension.
CREATE FUNCTION pointsd.has_citus() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
$$;

-- Whether a table is spread over the nodes; without one, whether the ledger is: the last table tells.
CREATE FUNCTION pointsd.is_spread(name text DEFAULT 'pointsd.adopted_transactions') RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    spread boolean := false;
BEGIN
    IF pointsd.has_citus() THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = $1::regclass)' INTO spread USING name;
    END IF;
    RETURN spread;
END
$$;

-- The size of all entries on disk, in bytes.
CREATE FUNCTION pointsd.entries_size() RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size bigint := pg_relation_size('pointsd.entries');
BEGIN
    IF pointsd.is_spread() THEN
        EXECUTE $q$SELECT citus_relation_size('pointsd.entries')$q$ INTO size;
    END IF;
    RETURN size;
END
$$;

-- What each node of the cluster answers to a query of one value. Nothing on a single server.
CREATE FUNCTION pointsd.ask_nodes(question text, OUT node text, OUT answer text) RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    success boolean;
BEGIN
    IF pointsd.is_spread() THEN
        FOR node, success, answer IN
            EXECUTE $q$SELECT format('%s:%s', nodename, nodeport), success, result FROM run_command_on_workers($1)$q$ USING question
        LOOP
            IF NOT success THEN
                RAISE EXCEPTION 'node % does not answer: %', node, answer USING ERRCODE = 'connection_failure';
            END IF;
            RETURN NEXT;
        END LOOP;
    END IF;
END
$$;

-- An instant that every server's clock has reached: what is recorded from now on, on whichever of them, is recorded later.
CREATE FUNCTION pointsd.earliest_clock() RETURNS timestamptz LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own timestamptz := clock_timestamp();
BEGIN
    RETURN least(own, (SELECT min('epoch'::timestamptz + n.answer::bigint * interval '1 microsecond')
                       FROM pointsd.ask_nodes('SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint') AS n));
END
$$;

-- The transactions that have written entries and not ended yet, prepared ones among them. A prepared transaction has no process. On a
-- cluster also those that only a node knows: the coordinator may have failed between the two phases of a commit.
CREATE FUNCTION pointsd.writers(OUT transaction text, OUT pid integer) RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT l.virtualtransaction, l.pid
    FROM pg_locks AS l
    WHERE l.locktype = 'relation' AND l.relation = 'pointsd.entries'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.pid IS DISTINCT FROM pg_backend_pid();
    RETURN QUERY
    SELECT format('%s %s', n.node, t), NULL::integer
    FROM pointsd.ask_nodes($q$
        SELECT coalesce(string_agg(DISTINCT l.virtualtransaction, ' '), '')
        FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
        WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
              AND c.relnamespace = 'pointsd'::regnamespace AND c.relname ~ '^entries(_[0-9]+)?$'
              AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    $q$) AS n
    CROSS JOIN unnest(string_to_array(nullif(n.answer, ''), ' ')) AS t;
END
$$;

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
    WHERE other.datname = current_database() AND other.backend_type = 'client backend' AND other.pid <> pg_backend_pid()
        AND other.application_name NOT LIKE 'citus_internal%'; -- a cluster's own
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
    IF buckets = pointsd.buckets() AND (NOT pointsd.has_citus() OR pointsd.is_spread()) THEN
        RAISE EXCEPTION 'the ledger has % buckets already', buckets USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF buckets <> pointsd.buckets() AND pointsd.is_spread('pointsd.accounts') THEN
        RAISE EXCEPTION 'the tables are spread over several servers' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Their accounts stay in %s buckets.', pointsd.buckets());
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
    IF pointsd.is_spread('pointsd.accounts') THEN
        RETURN NULL; -- they moved before
    END IF;
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

-- Moves what no index finds by the user, all at once: holds, findings and old keys.
CREATE FUNCTION pointsd.move_rest() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    count smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
BEGIN
    IF pointsd.is_spread('pointsd.accounts') THEN
        RETURN;
    END IF;
    DELETE FROM pointsd.run_parts; -- no run is under way
    UPDATE pointsd.holds AS h SET bucket = pointsd.bucket_in(h.user_id, count);
    UPDATE pointsd.findings AS f SET bucket = pointsd.bucket_in(f.user_id, count) WHERE f.user_id IS NOT NULL;
    ALTER TABLE pointsd.adopted_keys DISABLE TRIGGER adopted_keys_never_change;
    UPDATE pointsd.adopted_keys AS k SET bucket = pointsd.bucket_in(t.user_id, count)
    FROM pointsd.adopted_transactions AS t WHERE t.id = k.transaction;
    ALTER TABLE pointsd.adopted_keys ENABLE TRIGGER adopted_keys_never_change;
END
$$;

-- The next shard of the accounts to move, and from where to where, so that each node gets as many buckets as the others; no row where they
-- have. Few shards hold more buckets than others, because a hash parts them.
CREATE FUNCTION pointsd.uneven_shard(
    count smallint, OUT shard bigint, OUT from_name text, OUT from_port integer, OUT to_name text, OUT to_port integer
) RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE $q$
        WITH shard AS (
            SELECT s.shardid, count(*) AS buckets
            FROM generate_series(0, $1 - 1) AS b (bucket)
            CROSS JOIN LATERAL get_shard_id_for_distribution_column('pointsd.accounts', b.bucket::smallint) AS s (shardid)
            GROUP BY s.shardid
        ), node AS (
            SELECT n.groupid, n.nodename, n.nodeport, coalesce(sum(shard.buckets), 0) AS buckets
            FROM pg_dist_node AS n
            LEFT JOIN (pg_dist_placement AS p JOIN shard USING (shardid)) ON p.groupid = n.groupid
            WHERE n.isactive AND n.shouldhaveshards AND n.noderole = 'primary'
            GROUP BY n.groupid, n.nodename, n.nodeport
        )
        SELECT shard.shardid, full_node.nodename, full_node.nodeport, free_node.nodename AS to_name, free_node.nodeport AS to_port
        FROM node AS full_node
        JOIN pg_dist_placement AS p ON p.groupid = full_node.groupid
        JOIN shard USING (shardid)
        JOIN node AS free_node ON full_node.buckets - free_node.buckets > shard.buckets
        ORDER BY full_node.buckets - free_node.buckets DESC, abs(full_node.buckets - free_node.buckets - 2 * shard.buckets), shard.shardid
        LIMIT 1
    $q$ USING count;
END
$$;

-- Takes the next step of the spread over the nodes, and returns what it did; null where nothing is left to do. The accounts' table is small,
-- so its shards are moved until they are even, and the other tables follow them.
CREATE FUNCTION pointsd.spread_next() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    count smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
    name text;
    guard name;
    step record;
BEGIN
    IF NOT pointsd.has_citus() THEN
        RETURN NULL;
    END IF;
    -- The trigger that guards the history works on each node, because it reads nothing.
    PERFORM set_config('citus.enable_unsafe_triggers', 'on', true);
    PERFORM set_config('client_min_messages', 'error', true);
    IF NOT pointsd.is_spread('pointsd.accounts') THEN
        EXECUTE $q$SELECT create_distributed_table('pointsd.accounts', 'bucket', colocate_with => 'none')$q$;
        RETURN 'spread accounts';
    END IF;
    IF NOT pointsd.is_spread('pointsd.batches') THEN
        SELECT * INTO step FROM pointsd.uneven_shard(count);
        IF FOUND THEN
            EXECUTE $q$SELECT citus_move_shard_placement($1, $2, $3, $4, $5, 'block_writes')$q$
            USING step.shard, step.from_name, step.from_port, step.to_name, step.to_port;
            RETURN format('moved shard %s of accounts from %s:%s to %s:%s', step.shard, step.from_name, step.from_port, step.to_name, step.to_port);
        END IF;
    END IF;
    FOREACH name IN ARRAY ARRAY['batches', 'entries', 'holds', 'checkpoints', 'adopted_keys', 'run_parts'] LOOP
        IF NOT pointsd.is_spread('pointsd.' || name) THEN
            EXECUTE $q$SELECT create_distributed_table($1, 'bucket', colocate_with => 'pointsd.accounts')$q$ USING 'pointsd.' || name;
            RETURN 'spread ' || name;
        END IF;
    END LOOP;
    -- The rows that the coordinator itself held.
    FOREACH name IN ARRAY ARRAY['accounts', 'batches', 'entries', 'holds', 'checkpoints', 'adopted_keys', 'run_parts'] LOOP
        IF pg_relation_size(('pointsd.' || name)::regclass) > 0 THEN
            guard := (SELECT t.tgname FROM pg_trigger AS t
                      WHERE t.tgrelid = ('pointsd.' || name)::regclass AND t.tgname = name || '_never_change');
            IF guard IS NOT NULL THEN
                EXECUTE format('ALTER TABLE pointsd.%I DISABLE TRIGGER %I', name, guard);
            END IF;
            EXECUTE 'SELECT truncate_local_data_after_distributing_table($1)' USING ('pointsd.' || name)::regclass;
            IF guard IS NOT NULL THEN
                EXECUTE format('ALTER TABLE pointsd.%I ENABLE %s TRIGGER %I', name, CASE name WHEN 'entries' THEN 'ALWAYS' ELSE '' END, guard);
            END IF;
            RETURN format('freed the space of %s on the coordinator', name);
        END IF;
    END LOOP;
    -- The joins of postings with what was taken over from another service need it on each node. It changes no more.
    IF NOT pointsd.is_spread('pointsd.adoption') THEN
        EXECUTE $q$SELECT create_reference_table('pointsd.adoption')$q$;
        RETURN 'copied adoption to each node';
    END IF;
    IF NOT pointsd.is_spread('pointsd.two_phases') THEN
        EXECUTE $q$SELECT citus_add_local_table_to_metadata('pointsd.two_phases')$q$;
        RETURN 'made two_phases known to the nodes';
    END IF;
    IF NOT pointsd.is_spread('pointsd.adopted_transactions') THEN
        -- All functions: those that read a table of the coordinator are never called on a node, but belong to the schema.
        FOR step IN SELECT p.oid::regprocedure AS function FROM pg_proc AS p
                    WHERE p.pronamespace = 'pointsd'::regnamespace AND p.prorettype <> 'trigger'::regtype ORDER BY p.oid LOOP
            EXECUTE 'SELECT create_distributed_function($1)' USING step.function;
        END LOOP;
        -- These read tables, and are called for rows on the nodes.
        FOR step IN SELECT p.oid::regprocedure AS function FROM pg_proc AS p
                    WHERE p.pronamespace = 'pointsd'::regnamespace
                      AND p.proname IN ('account', 'account_then', 'refund_is_sound', 'restore_is_sound') LOOP
            EXECUTE format('ALTER FUNCTION %s SET citus.allow_nested_distributed_execution = on', step.function);
        END LOOP;
        EXECUTE $q$SELECT create_reference_table('pointsd.adopted_transactions')$q$;
        RETURN 'copied adopted_transactions and the functions to each node';
    END IF;
    RETURN NULL;
END
$$;

-- Refuses where the ledger cannot be spread from here.
CREATE FUNCTION pointsd.check_cluster() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner name := (SELECT r.rolname FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner WHERE c.oid = 'pointsd.accounts'::regclass);
    found record;
BEGIN
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'the ledger belongs to the role %', owner
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Call it as %s.', owner);
    END IF;
    IF NOT pointsd.has_citus() THEN
        RAISE EXCEPTION 'the database has no extension citus' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Install it on every server of the cluster, create it in this database on each, and add the workers with citus_add_node.';
    END IF;
    EXECUTE $q$
        SELECT (SELECT groupid <> 0 FROM pg_dist_local_group) AS is_worker,
               NOT EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0) AS lacks_coordinator,
               NOT EXISTS (SELECT FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary') AS lacks_nodes
    $q$ INTO found;
    IF found.is_worker THEN
        RAISE EXCEPTION 'this server is a worker of the cluster'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name the coordinator in database.url.';
    END IF;
    IF found.lacks_coordinator THEN
        RAISE EXCEPTION 'the cluster does not know its coordinator''s own address' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Tell it: SELECT citus_set_coordinator_host(HOST, PORT).';
    END IF;
    IF found.lacks_nodes THEN
        RAISE EXCEPTION 'the cluster has no node that holds data' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Add workers with citus_add_node, or let the coordinator hold data with citus_set_node_property.';
    END IF;
    IF EXISTS (SELECT FROM pointsd.adoption WHERE state <> 'applied') THEN
        RAISE EXCEPTION 'tables of another service are being taken over' USING ERRCODE = 'object_in_use',
            HINT = 'Finish that first: a spread ledger cannot adopt.';
    END IF;
END
$$;

-- The nodes that hold the ledger, with their shards of the accounts and the buckets in them. Nothing on a single server.
CREATE FUNCTION pointsd.nodes(OUT node text, OUT shards bigint, OUT buckets bigint, OUT active boolean) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pointsd.is_spread() THEN
        RETURN QUERY EXECUTE $q$
            SELECT format('%s:%s', n.nodename, n.nodeport), count(*), coalesce(sum(b.buckets), 0)::bigint, n.isactive
            FROM pg_dist_node AS n
            JOIN pg_dist_placement AS p USING (groupid)
            JOIN pg_dist_shard AS s ON s.shardid = p.shardid AND s.logicalrelid = 'pointsd.accounts'::regclass
            LEFT JOIN (SELECT get_shard_id_for_distribution_column('pointsd.accounts', b) AS shardid, count(*) AS buckets
                       FROM unnest(pointsd.all_buckets()) AS b GROUP BY 1) AS b ON b.shardid = s.shardid
            WHERE n.noderole = 'primary'
            GROUP BY n.nodename, n.nodeport, n.isactive
            ORDER BY n.nodename, n.nodeport
        $q$;
    END IF;
END
$$;

-- Where the buckets lie that another server than the coordinator holds. Nothing on a single server.
CREATE FUNCTION pointsd.bucket_nodes(OUT bucket smallint, OUT host text, OUT port integer) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pointsd.is_spread() THEN
        RETURN QUERY EXECUTE $q$
            SELECT b.bucket, n.nodename, n.nodeport
            FROM unnest(pointsd.all_buckets()) AS b (bucket)
            JOIN pg_dist_placement AS p ON p.shardid = get_shard_id_for_distribution_column('pointsd.accounts', b.bucket)
            JOIN pg_dist_node AS n USING (groupid)
            WHERE n.noderole = 'primary' AND n.groupid <> 0
        $q$;
    END IF;
END
$$;

-- The buckets whose node cannot be reached from here, each with that node. Nothing on a single server.
CREATE FUNCTION pointsd.buckets_away(OUT bucket smallint, OUT node text) RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pointsd.is_spread() THEN
        -- Connecting to a frozen node would take half a minute. The nodes are asked one after the other, up to ten of them in ten seconds.
        EXECUTE $q$SELECT set_config('citus.node_connection_timeout', (10000 / greatest(2, least(10, count(*))))::text, true)
                   FROM pg_dist_node WHERE noderole = 'primary' AND groupid <> 0$q$;
        RETURN QUERY EXECUTE $q$
            WITH place AS MATERIALIZED (SELECT * FROM pointsd.bucket_nodes()),
                 away AS MATERIALIZED (SELECT n.host, n.port FROM (SELECT DISTINCT p.host, p.port FROM place AS p) AS n
                                       WHERE NOT citus_check_connection_to_node(n.host, n.port))
            SELECT p.bucket, format('%s:%s', p.host, p.port) FROM place AS p JOIN away USING (host, port)
        $q$;
    END IF;
END
$$;

-- Keeps a bucket on its node until the transaction ends. On a single server there is nothing to do; end_distribution replaces it.
CREATE FUNCTION pointsd.keep_bucket(bucket smallint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
END
$$;

-- Ends the move: the new number of buckets is in force. Fails by accounts_in_own_bucket if an account was left behind.
CREATE FUNCTION pointsd.end_distribution() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    count smallint := (SELECT d.buckets FROM pointsd.distribution AS d);
BEGIN
    DELETE FROM pointsd.distribution;
    -- On a cluster the functions and the constraint change on each node, over one connection.
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    PERFORM pointsd.set_buckets(count);
    IF NOT pointsd.is_spread() THEN
        RETURN;
    END IF;
    -- A move of a shard takes the same lock alone, first on the coordinator and then on the nodes, and frees it on each when its commit
    -- arrives there. The old node would then send statements to a new one that does not show the rows yet. So a transaction at a node
    -- goes on only where the bucket is its own. The owner alone may take the lock.
    CREATE OR REPLACE FUNCTION pointsd.keep_bucket(bucket smallint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $keep$
    DECLARE
        shard bigint := get_shard_id_for_distribution_column('pointsd.accounts', bucket);
        share integer := 5;
    BEGIN
        PERFORM lock_shard_metadata(share, ARRAY[shard]);
        IF EXISTS (SELECT FROM pg_dist_local_group AS here WHERE here.groupid <> 0 AND NOT EXISTS (
                       SELECT FROM pg_dist_placement AS p WHERE p.shardid = shard AND p.groupid = here.groupid)) THEN
            RAISE EXCEPTION 'bucket % lies on another node now', bucket USING ERRCODE = 'serialization_failure';
        END IF;
    END
    $keep$;
END
$$;

REVOKE ALL ON FUNCTION pointsd.begin_distribution, pointsd.move_accounts, pointsd.move_rest, pointsd.spread_next, pointsd.end_distribution,
    pointsd.keep_bucket FROM PUBLIC;
