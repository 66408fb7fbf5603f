-- The fingerprint of the entries of all closed days, as sealed. Null where a day's rows are not what was sealed, or a day has no seal.
SELECT CASE WHEN coalesce(bool_and(s.books_print = pointsd.books_print(day)) AND count(s.day) = count(*)
                          AND count(d.ended) = count(*), true)
            THEN pointsd.fold_print(coalesce(sum(s.entries_print), 0)) END AS entries_print
FROM (SELECT day, max(ended) AS ended FROM pointsd.days GROUP BY day) AS d FULL JOIN pointsd.day_seals AS s USING (day)
