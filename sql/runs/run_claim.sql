-- Claims a slot, or begins a manual run. The insert succeeds for one daemon only. No row if the slot has a row already,
-- or the job has an open run.
-- $1 text: the job; $2 timestamptz: the slot; $3 text: the trigger; $4 timestamptz: now; $5 text, $6 integer: host and
-- process
INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat)
VALUES ($1, $2, $3, 'running', 1, nextval('pointsd.run_fences'), $5, $6, $4, clock_timestamp())
ON CONFLICT DO NOTHING
RETURNING run, attempt, fence, counters
