-- The control totals of the tables as they were read, and how the sum of all balances comes from theirs.
-- $1 boolean: batches are kept, not balances; $2 boolean: points that were due are kept; $3 boolean: batches without an account
-- become one
SELECT *, taken - net_before AS by_left_out,
       (SELECT count(DISTINCT user_id) FROM pointsd.adopted_openings) AS opened,
       (SELECT coalesce(sum(points), 0)::bigint FROM pointsd.adopted_openings WHERE NOT is_forgiven) AS net_after
FROM (
    SELECT count(*) AS accounts,
           count(*) FILTER (WHERE balance > 0) AS with_points,
           coalesce(sum(balance) FILTER (WHERE balance > 0), 0)::bigint AS points,
           count(*) FILTER (WHERE balance < 0) AS in_debt,
           coalesce(-sum(balance) FILTER (WHERE balance < 0), 0)::bigint AS debts,
           coalesce(sum(balance), 0)::bigint AS net_before
    FROM pointsd.adopted_accounts
) AS account, (
    SELECT coalesce(sum(balance) FILTER (WHERE is_account), 0)::bigint AS taken,
           coalesce(sum(batch_points - balance) FILTER (WHERE $1 AND is_account AND NOT (balance < 0 AND has = 0)), 0)::bigint AS by_batches,
           coalesce(-sum(CASE WHEN is_account AND NOT $1 THEN greatest(0, expired - greatest(0, batch_points - balance))
                              WHEN is_account AND (balance >= 0 OR has > 0) OR account_rows = 0 AND $3 THEN expired
                              ELSE 0 END) FILTER (WHERE NOT $2), 0)::bigint AS by_expired,
           coalesce(sum(batch_points) FILTER (WHERE $3 AND account_rows = 0), 0)::bigint AS by_orphans
    FROM (SELECT *, CASE WHEN $2 THEN batch_points ELSE batch_points - expired END AS has FROM pointsd.adopted_positions) AS position
) AS position, (
    SELECT count(*) AS batches, coalesce(sum(remaining), 0)::bigint AS batch_points FROM pointsd.adopted_batches WHERE remaining > 0
) AS batch, (
    SELECT count(*) AS transactions, max(id) AS last_transaction FROM pointsd.adopted_transactions
) AS transaction
