-- Claims a slot, or begins a manual run. The insert succeeds for one daemon only. No row if the slot has a row already,
-- if the job has an open run, or if it is paused and the run is not manual. The lock on the job makes a pause wait for a
-- claim under way, and a claim for a pause under way. So no run begins once the pause is committed.
-- $1 text: the job; $2 timestamptz: the slot; $3 text: the trigger; $4 timestamptz: now; $5 text, $6 integer: host and
-- process
INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat)
SELECT $1, $2::timestamptz, $3, 'running', 1, nextval('pointsd.run_fences'), $5::text, $6::integer, $4::timestamptz,
       clock_timestamp()
FROM (SELECT FROM pointsd.jobs WHERE job = $1::text AND (paused_at IS NULL OR $3::text = 'manual') FOR SHARE) AS open
ON CONFLICT DO NOTHING
RETURNING run, attempt, fence, counters
