-- Rows that cannot be used: a value is missing or cannot be read, or a user has several accounts.
SELECT class, rows::bigint AS rows, least(points, 9000000000000000000)::bigint AS points
FROM (
    SELECT 'account_unreadable' AS class, count(*) AS rows, 0::numeric AS points
    FROM pointsd.adopted_accounts WHERE user_id IS NULL OR balance IS NULL
    UNION ALL
    SELECT 'account_twice', sum(rows), sum(points)
    FROM (SELECT count(*) AS rows, sum(abs(balance)) AS points FROM pointsd.adopted_accounts
          WHERE user_id IS NOT NULL AND balance IS NOT NULL GROUP BY user_id HAVING count(*) > 1) AS twice
    UNION ALL
    SELECT 'batch_unreadable', count(*), coalesce(sum(abs(remaining)), 0)
    FROM pointsd.adopted_batches
    WHERE user_id IS NULL OR remaining IS NULL OR remaining < 0 OR remaining > 0 AND expires_at IS NULL
    UNION ALL
    SELECT 'batch_id_twice', coalesce(sum(rows), 0), coalesce(sum(points), 0)
    FROM (SELECT count(*) AS rows, sum(remaining) AS points FROM pointsd.adopted_batches
          WHERE user_id IS NOT NULL AND remaining > 0 GROUP BY user_id, id HAVING count(*) > 1) AS twice
    UNION ALL
    SELECT 'transaction_unreadable', count(*), coalesce(sum(abs(amount)), 0)
    FROM pointsd.adopted_transactions WHERE user_id IS NULL OR amount IS NULL OR amount < 0 OR at IS NULL
) AS unusable
WHERE rows > 0
