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
