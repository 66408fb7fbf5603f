-- What all accounts hold together, and what is owed. One pass over them.
SELECT reports.counted(coalesce(sum(balance), 0)) AS balance,
       reports.counted(coalesce(-sum(balance) FILTER (WHERE balance < 0), 0)) AS owed
FROM ledger.accounts
