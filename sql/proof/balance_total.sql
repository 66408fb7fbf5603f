-- What all accounts hold together, what is owed, and how many they are. One pass over them.
SELECT coalesce(sum(balance), 0)::bigint AS balance, coalesce(sum(-balance) FILTER (WHERE balance < 0), 0)::bigint AS owed,
       count(*) AS accounts
FROM ledger.accounts
