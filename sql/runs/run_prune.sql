-- Deletes old runs that are over. A job's last slot stays, because the next slots are computed from it.
-- $1 timestamptz: over before this instant; $2 bigint: how many at most
DELETE FROM pointsd.runs AS r
USING (SELECT o.run
       FROM pointsd.runs AS o
       WHERE o.finished < $1
         AND (o.trigger = 'manual'
              OR o.slot < (SELECT max(l.slot) FROM pointsd.runs AS l WHERE l.job = o.job AND l.trigger <> 'manual'))
       ORDER BY o.run
       LIMIT $2) AS over
WHERE r.run = over.run
