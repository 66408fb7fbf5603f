-- What each closed month closed with, as its closing kept it and as its last day says now; null where that day is not closed any more.
WITH standing AS (
    SELECT DISTINCT ON (month) month, action, totals, (month + interval '1 month' - interval '1 day')::date AS last
    FROM pointsd.periods
    ORDER BY month, event DESC
)
SELECT s.month, s.totals,
       (SELECT jsonb_object_agg(d.source, d.closing) FROM pointsd.days AS d WHERE d.day = s.last) AS closing,
       (SELECT jsonb_object_agg(m.currency, m.closings)
        FROM (SELECT currency, jsonb_object_agg(source, closing) AS closings
              FROM pointsd.day_money
              WHERE day = s.last
              GROUP BY currency) AS m) AS money
FROM standing AS s
WHERE s.action = 'close'
ORDER BY s.month
