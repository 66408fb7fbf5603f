-- Entries and batches up to an account's checkpoint are what they were when they were proved: all their columns, but
-- for what remains in a batch and whether it is open. This finds what no other rule says anything about, once it was
-- proved: a description, a time of recording, when a batch expires.
-- $1 uuid[]: the users
SELECT c.user_id, NULL::integer AS batch, NULL::bigint AS seq,
       concat_ws(' and ', CASE WHEN e.print <> c.entries_print THEN format('entries 1 to %s', c.seq) END,
                          CASE WHEN b.print <> c.batches_print THEN format('batches 1 to %s', c.batches) END)
           || ' as they were proved' AS expected,
       -- Their fingerprints as they are: what changes once more is another finding, and no plan of a repair accepts it unread.
       'changed since, to ' || concat_ws(' and ', CASE WHEN e.print <> c.entries_print THEN e.print END,
                                                  CASE WHEN b.print <> c.batches_print THEN b.print END) AS found
FROM pointsd.checkpoints AS c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pointsd.entry_print(e)), 0) AS print
    FROM pointsd.entries AS e
    WHERE e.user_id = c.user_id AND e.seq <= c.seq
) AS e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pointsd.batch_print(b)), 0) AS print
    FROM pointsd.batches AS b
    WHERE b.user_id = c.user_id AND b.batch <= c.batches
) AS b
WHERE c.user_id = ANY ($1::uuid[]) AND (e.print <> c.entries_print OR b.print <> c.batches_print)
