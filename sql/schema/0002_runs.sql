-- The jobs, from which instant the slots of each count, and every run.

-- One row a job, written when a daemon first knows the job.
CREATE TABLE pointsd.jobs (
    job       text        NOT NULL,
    rule      text        NOT NULL, -- the schedule that `since` belongs to
    since     timestamptz NOT NULL, -- slots after this instant count: when this schedule was first seen
    queued_to timestamptz,          -- slots up to this instant came due during a run, and wait for its end
    paused_at timestamptz,          -- null: not paused
    paused_by text,
    CONSTRAINT jobs_pkey PRIMARY KEY (job),
    CONSTRAINT jobs_paused_by_somebody CHECK ((paused_at IS NULL) = (paused_by IS NULL))
);

-- The daemons at work. Each writes its row at least every half minute, and deletes it when it stops.
CREATE TABLE pointsd.daemons (
    host    text        NOT NULL,
    pid     integer     NOT NULL,
    version text        NOT NULL,
    started timestamptz NOT NULL,
    seen    timestamptz NOT NULL,
    status  text        NOT NULL, -- what it tells systemd
    CONSTRAINT daemons_pkey PRIMARY KEY (host, pid)
);

-- Fencing tokens. Each claim and each take-over of a run draws the next one; only the highest may write.
CREATE SEQUENCE pointsd.run_fences;

-- One row a slot, and one a manual run. The row is the claim: the daemon that inserted it, or took it over, runs it.
CREATE TABLE pointsd.runs (
    run       bigint      GENERATED ALWAYS AS IDENTITY,
    job       text        NOT NULL,
    slot      timestamptz NOT NULL, -- the instant that the run is for
    trigger   text        NOT NULL,
    state     text        NOT NULL,
    attempt   integer     NOT NULL, -- how often it was begun
    fence     bigint      NOT NULL, -- the holder's fencing token
    host      text,                 -- the holder, or the last one
    pid       integer,
    started   timestamptz,
    heartbeat timestamptz,          -- the holder's last sign of life; null: there is no holder
    resume_at timestamptz,          -- without a holder: when it may be taken
    finished  timestamptz,
    progress  jsonb,                -- {"done": …, "total": …}
    counters  jsonb,                -- what it did, written in the very transactions that did it
    in_parts  boolean     NOT NULL DEFAULT false, -- whether pointsd.run_parts has its counters until it ends
    error     text,                 -- of the last attempt that failed
    why       text,                 -- why it was skipped, missed or cancelled
    CONSTRAINT runs_pkey PRIMARY KEY (run),
    CONSTRAINT runs_trigger_known CHECK (trigger IN ('schedule', 'catch-up', 'manual')),
    CONSTRAINT runs_state_known
        CHECK (state IN ('running', 'succeeded', 'failed', 'skipped', 'missed', 'cancelled')),
    CONSTRAINT runs_finished_unless_running CHECK ((state = 'running') = (finished IS NULL)),
    CONSTRAINT runs_failed_for_a_reason CHECK (state <> 'failed' OR error IS NOT NULL),
    CONSTRAINT runs_not_run_for_a_reason CHECK (state NOT IN ('skipped', 'missed', 'cancelled') OR why IS NOT NULL)
);

-- A slot has one row.
CREATE UNIQUE INDEX runs_one_per_slot ON pointsd.runs (job, slot) WHERE trigger <> 'manual';
-- A job has one run under way at most.
CREATE UNIQUE INDEX runs_one_running ON pointsd.runs (job) WHERE state = 'running';
-- Lists the last runs of a job.
CREATE INDEX runs_by_job ON pointsd.runs (job, run);
-- Lists the last runs in a state, of which there may be few or none.
CREATE INDEX runs_by_state ON pointsd.runs (state, run);

-- The counters of a job's last run in each bucket, with its fence there. A row lies on the server of its bucket. The transaction that does
-- the work writes them.
CREATE TABLE pointsd.run_parts (
    bucket   smallint NOT NULL,
    job      text     NOT NULL,
    run      bigint   NOT NULL,
    fence    bigint   NOT NULL, -- only a holder with this fencing token writes here
    counters jsonb,
    CONSTRAINT run_parts_pkey PRIMARY KEY (bucket, job)
);

-- Always empty. On a cluster a transaction that touches it commits in two phases: what it wrote on a node and what it wrote here are
-- committed together, or neither.
CREATE TABLE pointsd.two_phases (
    nothing boolean NOT NULL,
    CONSTRAINT two_phases_pkey PRIMARY KEY (nothing)
);

-- Called last in each transaction in which a run writes. Stores progress and counters. Fails, and so ends the transaction,
-- where the run was taken over or cancelled, or is over. A take-over waits for the row's lock, and so for the commit.
CREATE FUNCTION pointsd.save_progress(kept_run bigint, kept_fence bigint, kept_progress jsonb, kept_counters jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE pointsd.runs
    SET progress = kept_progress, counters = kept_counters, heartbeat = clock_timestamp()
    WHERE run = kept_run AND fence = kept_fence AND state = 'running' AND heartbeat IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', kept_run, kept_fence
            USING ERRCODE = 'PD001', HINT = 'It was taken over or cancelled; what it committed before stays.';
    END IF;
    DELETE FROM pointsd.two_phases;
END
$$;

-- Called last in each transaction in which a run writes to one bucket only. Stores the counters of the bucket. Fails, and so ends the
-- transaction, where another holder has taken the bucket or the run was cancelled. Either waits for the row's lock, and so for the commit.
CREATE FUNCTION pointsd.save_part(kept_bucket smallint, kept_job text, kept_run bigint, kept_fence bigint, kept_counters jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE pointsd.run_parts SET counters = kept_counters
    WHERE bucket = kept_bucket AND job = kept_job AND run = kept_run AND fence = kept_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', kept_run, kept_fence
            USING ERRCODE = 'PD001', HINT = 'It was taken over or cancelled; what it committed before stays.';
    END IF;
END
$$;

-- Takes a run in every bucket, for the holder with this fencing token; returns what earlier holders counted in each. No row where the
-- run is not held under this token. From now on an earlier holder can write in no bucket. Bucket by bucket, because a cluster opens a
-- connection for each part of a table to insert rows of several.
CREATE FUNCTION pointsd.take_parts(taken_run bigint, taken_fence bigint, OUT bucket smallint, OUT counters jsonb)
RETURNS SETOF record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    taken_job text;
BEGIN
    UPDATE pointsd.runs SET heartbeat = clock_timestamp(), in_parts = true
    WHERE run = taken_run AND fence = taken_fence AND state = 'running' AND heartbeat IS NOT NULL
    RETURNING job INTO taken_job;
    IF FOUND THEN
        FOREACH bucket IN ARRAY pointsd.all_buckets() LOOP
            counters := pointsd.take_part(take_parts.bucket, taken_job, taken_run, taken_fence);
            RETURN NEXT;
        END LOOP;
        DELETE FROM pointsd.two_phases;
    END IF;
END
$$;

-- Takes a run in one bucket; returns what earlier holders counted there. Waits for a transaction that is under way.
CREATE FUNCTION pointsd.take_part(taken_bucket smallint, taken_job text, taken_run bigint, taken_fence bigint) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted jsonb;
BEGIN
    INSERT INTO pointsd.run_parts AS p (bucket, job, run, fence) VALUES (taken_bucket, taken_job, taken_run, taken_fence)
    ON CONFLICT (bucket, job) DO UPDATE
    SET counters = CASE WHEN p.run = excluded.run THEN p.counters END, run = excluded.run, fence = excluded.fence
    RETURNING counters INTO counted;
    RETURN counted;
END
$$;

-- The sum of two counters, as a job keeps them: objects of numbers, lists and such objects.
CREATE FUNCTION pointsd.add_counters(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE
        WHEN a IS NULL THEN b
        WHEN b IS NULL THEN a
        WHEN jsonb_typeof(a) = 'number' THEN to_jsonb(least(a::numeric + b::numeric, 9223372036854775807))
        WHEN jsonb_typeof(a) = 'array' THEN a || b
        WHEN jsonb_typeof(a) = 'object' THEN (
            SELECT coalesce(jsonb_object_agg(k.key, pointsd.add_counters(a -> k.key, b -> k.key)), '{}')
            FROM (SELECT jsonb_object_keys(a) UNION SELECT jsonb_object_keys(b)) AS k (key))
        ELSE b
    END;
END
$$;

-- Takes a run from its holder in every bucket; returns what was counted in all of them. From now on every write for the run fails. Does
-- nothing and returns null where the run is not held under this fencing token. The same where no holder has taken a bucket: such a run can
-- end while a node is away.
CREATE FUNCTION pointsd.seize_parts(seized_run bigint, seized_fence bigint) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    seized record;
    next_fence bigint;
    bucket smallint;
    counted jsonb;
BEGIN
    -- The lock comes first: take_parts may be under way.
    SELECT job, in_parts INTO seized FROM pointsd.runs
    WHERE run = seized_run AND fence = seized_fence AND state = 'running' FOR UPDATE;
    IF seized.in_parts THEN
        next_fence := nextval('pointsd.run_fences');
        FOREACH bucket IN ARRAY pointsd.all_buckets() LOOP
            counted := pointsd.add_counters(counted, pointsd.take_part(bucket, seized.job, seized_run, next_fence));
        END LOOP;
        DELETE FROM pointsd.two_phases;
    END IF;
    RETURN counted;
END
$$;

-- Cancels a run at once: from now on its holder cannot write. False if it is over.
CREATE FUNCTION pointsd.cancel_run(cancelled_run bigint, reason text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held bigint := (SELECT fence FROM pointsd.runs WHERE run = cancelled_run AND state = 'running' FOR UPDATE);
    counted jsonb := pointsd.seize_parts(cancelled_run, held);
BEGIN
    UPDATE pointsd.runs
    SET state = 'cancelled', finished = clock_timestamp(), resume_at = NULL, why = reason, counters = coalesce(counted, counters)
    WHERE run = cancelled_run AND state = 'running';
    RETURN FOUND;
END
$$;
