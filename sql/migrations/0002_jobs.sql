-- The jobs: what each one's schedule is counted from, and every run.

-- One row per job, written when a daemon first knows it.
CREATE TABLE pointsd.jobs (
    job       text        NOT NULL,
    rule      text        NOT NULL, -- the schedule that `since` belongs to
    since     timestamptz NOT NULL, -- slots after this instant count: when this schedule was first seen
    queued_to timestamptz,          -- slots up to this instant came due behind a run, and wait for its end
    paused_at timestamptz,          -- null: not paused
    paused_by text,
    CONSTRAINT jobs_pkey PRIMARY KEY (job),
    CONSTRAINT jobs_paused_by_somebody CHECK ((paused_at IS NULL) = (paused_by IS NULL))
);

-- Whoever takes a run gets the next of these: the higher fence is the one that may write.
CREATE SEQUENCE pointsd.run_fences;

-- One row per slot, and one per manual run. The row is the claim: who inserted it, or took it over, runs it.
CREATE TABLE pointsd.runs (
    run       bigint      GENERATED ALWAYS AS IDENTITY,
    job       text        NOT NULL,
    slot      timestamptz NOT NULL, -- the instant that the run is for
    trigger   text        NOT NULL,
    state     text        NOT NULL,
    attempt   integer     NOT NULL, -- how often somebody began it
    fence     bigint      NOT NULL, -- of who holds it
    host      text,                 -- who holds it, or held it last
    pid       integer,
    started   timestamptz,
    heartbeat timestamptz,          -- the holder's last sign of life; null while nobody holds it
    resume_at timestamptz,          -- while nobody holds it: when it may be taken
    finished  timestamptz,
    progress  jsonb,                -- {"done": …, "total": …}
    counters  jsonb,                -- what it did, kept in the very transactions that did it
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

-- A slot ends as exactly one row; a job has one run under way at most.
CREATE UNIQUE INDEX runs_one_per_slot ON pointsd.runs (job, slot) WHERE trigger <> 'manual';
CREATE UNIQUE INDEX runs_one_running ON pointsd.runs (job) WHERE state = 'running';
CREATE INDEX runs_by_job ON pointsd.runs (job, run);

-- Called last in each transaction that a run writes in: keeps what the run has done so far, or ends the transaction
-- where the run has another holder by now, was cancelled or is over. The row's lock makes whoever wants to take the run
-- over wait for the commit.
CREATE FUNCTION pointsd.save_progress(kept_run bigint, kept_fence bigint, kept_progress jsonb, kept_counters jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pointsd.runs
    SET progress = kept_progress, counters = kept_counters, heartbeat = clock_timestamp()
    WHERE run = kept_run AND fence = kept_fence AND state = 'running' AND heartbeat IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer held under fence %', kept_run, kept_fence
            USING ERRCODE = 'PD001', HINT = 'Somebody took it over or cancelled it; what it did before stays.';
    END IF;
END
$$;

-- Which run wrote an entry: what a run says that it did can be proved by what it wrote.
ALTER TABLE pointsd.entries ADD COLUMN run bigint;
CREATE INDEX entries_by_run ON pointsd.entries (run) WHERE run IS NOT NULL;
