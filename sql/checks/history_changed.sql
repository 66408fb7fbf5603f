-- Entries and batches up to an account's checkpoint are what they were when they were proved. This covers all columns but two:
-- what remains in a batch, and whether it is open. It finds changes that no other rule can see: a description, a time of
-- recording, when a batch expires.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT c.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       concat_ws(' and ', CASE WHEN e.print <> c.entries_print THEN format('entries 1 to %s', c.seq) END,
                          CASE WHEN b.print <> c.batches_print THEN format('batches 1 to %s', c.batches) END)
           || ' as they were proved' AS expected,
       -- With the present fingerprints: a further change gives another value, so an older repair plan does not accept it.
       'changed since, to ' || concat_ws(' and ', CASE WHEN e.print <> c.entries_print THEN e.print END,
                                                  CASE WHEN b.print <> c.batches_print THEN b.print END) AS found,
       NULL::bigint AS points
FROM pointsd.checkpoints AS c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pointsd.entry_print(ROW(e.*)::pointsd.entries)), 0) AS print
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = c.user_id AND e.seq <= c.seq
) AS e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pointsd.batch_print(ROW(b.*)::pointsd.batches)), 0) AS print
    FROM pointsd.batches AS b
    WHERE b.bucket = $2 AND b.user_id = c.user_id AND b.batch <= c.batches
) AS b
WHERE c.bucket = $2 AND c.user_id = ANY ($1::uuid[]) AND (e.print <> c.entries_print OR b.print <> c.batches_print)
