-- How many accounts have points, owe points, have nothing left, and how much that is.
SELECT count(*) FILTER (WHERE balance > 0), coalesce(sum(balance) FILTER (WHERE balance > 0), 0)::bigint,
       count(*) FILTER (WHERE balance < 0), coalesce(sum(balance) FILTER (WHERE balance < 0), 0)::bigint,
       count(*) FILTER (WHERE balance = 0)
FROM pointsd.accounts
