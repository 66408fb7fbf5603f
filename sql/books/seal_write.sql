-- Seals closed days, or seals them anew.
-- $1 date[], $2 bigint[]: the days, and the fingerprints of their entries
INSERT INTO pointsd.day_seals (day, entries_print, books_print)
SELECT day, print, pointsd.books_print(day) FROM unnest($1::date[], $2::bigint[]) AS of (day, print)
ON CONFLICT (day) DO UPDATE SET entries_print = excluded.entries_print, books_print = excluded.books_print
