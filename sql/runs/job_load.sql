-- The jobs with their last slots and open runs, to plan what is due. The server's clock alone decides whether a run is
-- free, because the clocks of the daemons may differ.
-- $1 text[]: the jobs; $2 timestamptz: now; $3 float8: seconds after the last heartbeat until a run is free;
-- $4 float8: seconds of the future in which a slot may be recorded, should clocks differ
SELECT j.job, j.since, j.queued_to, j.paused_at, j.paused_by,
       (SELECT max(s.slot) FROM pointsd.runs AS s WHERE s.job = j.job AND s.trigger <> 'manual' AND s.slot <= $2::timestamptz) AS last_slot,
       EXISTS (SELECT FROM pointsd.runs AS a
               WHERE a.job = j.job AND a.trigger <> 'manual' AND a.slot > $2::timestamptz + $4::float8 * interval '1 second'
                 AND a.state IN ('missed', 'skipped') AND a.finished > clock_timestamp()) AS ahead,
       r.run, r.slot, r.trigger, r.attempt, r.fence, r.host, r.pid, r.started, r.heartbeat, r.resume_at,
       CASE WHEN r.heartbeat IS NULL THEN r.resume_at IS NULL OR r.resume_at <= clock_timestamp()
            -- A heartbeat from the future counts as old: the clock went back, and its real age is unknown.
            ELSE abs(extract(epoch FROM clock_timestamp() - r.heartbeat)) > $3::float8 END AS free
FROM pointsd.jobs AS j
LEFT JOIN pointsd.runs AS r ON r.job = j.job AND r.state = 'running'
WHERE j.job = ANY ($1::text[])
