-- The fingerprints of the entries recorded in a span of time, added up by day. See pointsd.day_seals.
-- Each print is computed before the days are grouped: grouping may sort, and would then sort whole entries.
-- $1 timestamptz, $2 timestamptz: from, and up to, without it; null: no limit
-- $3 timestamptz[]: the begins of the second day, the third, and so on; the first day is number 0
SELECT nth, pointsd.fold_print(sum(print)) AS print
FROM (SELECT width_bucket(e.recorded_at, $3::timestamptz[]) AS nth, pointsd.entry_print(ROW(e.*)::pointsd.entries) AS print
      FROM pointsd.entries AS e
      WHERE e.recorded_at >= coalesce($1::timestamptz, '-infinity') AND e.recorded_at < coalesce($2::timestamptz, 'infinity')
      OFFSET 0) AS of
GROUP BY nth
