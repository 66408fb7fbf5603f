-- What each account has there, by its row, its batches and its transactions. One pass over the transactions, sorted by account.
-- A sum that passes 64 bits is cut: it is shown, and nothing is computed from it but batch_points, which the ledger refuses then.
-- $1 timestamptz: when the tables were read
INSERT INTO pointsd.adopted_positions (user_id, balance, batch_points, expired, charged_twice, posted_twice, posted_twice_by,
                                       breaks, breaks_by, ends_at, recharged, consumed, expired_before, owing_since, account_rows, is_account)
WITH account AS (
    -- Of several rows, none says which is right.
    SELECT user_id, count(*) AS rows, CASE WHEN count(*) = 1 THEN min(balance) END AS balance
    FROM pointsd.adopted_accounts
    WHERE user_id IS NOT NULL
    GROUP BY user_id
), batch AS (
    SELECT user_id, sum(remaining) AS points, sum(remaining) FILTER (WHERE expires_at <= $1) AS expired
    FROM pointsd.adopted_batches
    WHERE user_id IS NOT NULL AND remaining > 0 AND expires_at IS NOT NULL
    GROUP BY user_id
), step AS (
    SELECT user_id, at, type, amount, balance_before, balance_after,
           CASE type WHEN 'recharge' THEN amount WHEN 'consume' THEN -amount WHEN 'expire' THEN -amount END AS moves,
           lag(balance_after) OVER history AS previous, lead(id) OVER history IS NULL AS is_last
    FROM pointsd.adopted_transactions
    WHERE user_id IS NOT NULL
    WINDOW history AS (PARTITION BY user_id ORDER BY id)
), history AS (
    -- An expiry that leaves a balance below zero took points that had paid a debt, and charged it again.
    SELECT user_id,
           sum(least(amount, -balance_after)) FILTER (WHERE type = 'expire' AND balance_after < 0 AND amount > 0) AS charged_twice,
           count(*) FILTER (WHERE balance_before <> previous OR balance_after <> balance_before + moves) AS breaks,
           sum(abs(balance_after - coalesce(previous, balance_before)::numeric - moves)) AS breaks_by,
           max(balance_after) FILTER (WHERE is_last) AS ends_at,
           sum(amount) FILTER (WHERE type = 'recharge') AS recharged,
           sum(amount) FILTER (WHERE type = 'consume') AS consumed,
           sum(amount) FILTER (WHERE type = 'expire') AS expired,
           max(at) FILTER (WHERE balance_after < 0 AND coalesce(previous, 0) >= 0) AS owing_since
    FROM step
    GROUP BY user_id
), repeated AS (
    SELECT user_id, sum(again) AS again, sum(points) AS points
    FROM (
        SELECT user_id, count(*) - 1 AS again, sum(amount) - min(amount) AS points
        FROM pointsd.adopted_transactions
        WHERE type IN ('recharge', 'consume') AND source_id IS NOT NULL AND user_id IS NOT NULL
        GROUP BY user_id, type, source_type, source_id
        HAVING count(*) > 1
    ) AS key
    GROUP BY user_id
)
SELECT user_id, coalesce(account.balance, 0), least(coalesce(batch.points, 0), most), least(coalesce(batch.expired, 0), most),
       least(coalesce(history.charged_twice, 0), most), coalesce(repeated.again, 0), least(coalesce(repeated.points, 0), most),
       coalesce(history.breaks, 0), least(coalesce(history.breaks_by, 0), most), history.ends_at,
       least(coalesce(history.recharged, 0), most), least(coalesce(history.consumed, 0), most),
       least(coalesce(history.expired, 0), most), history.owing_since, coalesce(account.rows, 0),
       account.balance IS NOT NULL
FROM account
FULL JOIN batch USING (user_id)
FULL JOIN history USING (user_id)
LEFT JOIN repeated USING (user_id)
CROSS JOIN (SELECT 9000000000000000000) AS one (most)
