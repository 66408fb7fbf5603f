-- Records slots that are not run, with the reason. A row that a slot has already stays.
-- $1 text: the job; $2 timestamptz[], $3 text[], $4 text[]: slot, state and reason, pairwise
INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, finished, why)
SELECT $1, slot, 'schedule', state, 0, 0, clock_timestamp(), why
FROM unnest($2::timestamptz[], $3::text[], $4::text[]) AS settled (slot, state, why)
ON CONFLICT DO NOTHING
