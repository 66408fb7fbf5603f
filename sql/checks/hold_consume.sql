-- A captured hold names the consume with its key, which is dated when the hold was made, or before. An open or a released hold names
-- no entry, and for an open one no consume was posted. Several holds with one entry, or without any, are one finding.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT DISTINCT ON (h.user_id, coalesce(h.seq, c.seq)) h.user_id, NULL::integer AS batch, coalesce(h.seq, c.seq) AS seq,
       CASE WHEN h.state NOT IN ('open', 'captured', 'released') THEN 'a hold that is open, captured or released'
            WHEN h.points <= 0 OR h.until <= h.at OR NOT isfinite(h.at) OR NOT isfinite(h.until)
                THEN 'a hold of points, until an instant after it was made'
            WHEN h.state <> 'captured' AND h.seq IS NOT NULL THEN format('no entry, because the hold is %s', h.state)
            WHEN h.state = 'open' THEN 'a captured hold'
            WHEN c.seq IS DISTINCT FROM h.seq THEN 'a consume with the key of its hold'
            ELSE 'dated until ' || (h.at AT TIME ZONE 'UTC') || ' UTC' END
           || format(' (hold for %s %s)', h.source_type, h.source_id) AS expected,
       CASE WHEN h.state NOT IN ('open', 'captured', 'released') THEN h.state
            WHEN h.points <= 0 OR h.until <= h.at OR NOT isfinite(h.at) OR NOT isfinite(h.until)
                THEN format('%s points from %s until %s', h.points, h.at AT TIME ZONE 'UTC', h.until AT TIME ZONE 'UTC')
            WHEN h.state <> 'captured' AND h.seq IS NOT NULL THEN 'entry ' || h.seq
            WHEN h.state = 'open' THEN 'an open hold'
            WHEN c.seq IS DISTINCT FROM h.seq THEN coalesce('entry ' || c.seq, 'none')
            ELSE 'dated ' || (c.at AT TIME ZONE 'UTC') || ' UTC' END AS found,
       NULL::bigint AS points
FROM pointsd.holds AS h
LEFT JOIN pointsd.entries AS c ON c.bucket = $2 AND c.user_id = h.user_id AND c.key = h.key AND c.type = 'consume'
WHERE h.bucket = $2 AND h.user_id = ANY ($1::uuid[]) AND NOT pointsd.hold_is_sound(ROW(h.*)::pointsd.holds, ROW(c.*)::pointsd.entries)
ORDER BY h.user_id, coalesce(h.seq, c.seq), h.key
