-- Returns now, and when a run or a posting last wrote; null in an empty database. Of the entries only those after the last run are
-- read, because an index finds them.
SELECT clock_timestamp(),
       nullif(greatest((SELECT max(greatest(started, heartbeat, finished)) FROM pointsd.runs),
                       (SELECT max(e.recorded_at) FROM pointsd.entries AS e
                        WHERE e.recorded_at >= (SELECT coalesce(max(greatest(started, heartbeat, finished)), '-infinity')
                                                FROM pointsd.runs))), '-infinity')
