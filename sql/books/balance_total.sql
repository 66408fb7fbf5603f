-- Sums all balances, and all arrears. One pass over the accounts.
SELECT pointsd.clamp_bigint(coalesce(sum(balance), 0)) AS balance,
       pointsd.clamp_bigint(coalesce(-sum(balance) FILTER (WHERE balance < 0), 0)) AS owed
FROM pointsd.accounts
