-- What is wrong there, by class: how many accounts, rows and points, and for each class the five accounts with the most points. Rows
-- without a user that can be read are counted, and are no example. Names of users are cut for the page.
-- $1 boolean: there is a history
WITH faults AS (
    SELECT f.class, p.user_id, a.old_user, f.rows, f.points
    FROM pointsd.adopted_positions AS p
    LEFT JOIN pointsd.adopted_accounts AS a ON a.user_id = p.user_id AND a.balance IS NOT NULL AND p.is_account
    CROSS JOIN LATERAL (VALUES
        ('balance_above_batches', p.is_account AND p.balance > p.batch_points AND p.balance > 0, 1::bigint, p.balance - p.batch_points),
        ('batches_above_balance', p.is_account AND p.balance >= 0 AND p.batch_points > p.balance, 1, p.batch_points - p.balance),
        ('points_beside_debt', p.is_account AND p.balance < 0 AND p.batch_points > 0, 1, p.batch_points),
        ('debt_charged_twice', p.is_account AND p.charged_twice > 0, 1, p.charged_twice),
        ('points_expired', p.expired > 0 AND (p.is_account OR p.account_rows = 0), 1, p.expired),
        ('posted_twice', p.posted_twice > 0, p.posted_twice, p.posted_twice_by),
        ('history_broken', p.breaks > 0, p.breaks, p.breaks_by),
        ('balance_changed_by_hand', p.is_account AND p.ends_at <> p.balance, 1, abs(p.balance::numeric - p.ends_at)),
        ('totals_differ', p.is_account AND (a.total_recharged <> p.recharged OR a.total_consumed <> p.consumed
            OR a.total_expired <> p.expired_before), 1,
            greatest(abs(a.total_recharged::numeric - p.recharged), abs(a.total_consumed::numeric - p.consumed),
                     abs(a.total_expired::numeric - p.expired_before))),
        ('debt_without_date', p.balance < 0 AND p.owing_since IS NULL, 1, -p.balance),
        ('batches_without_account', p.account_rows = 0 AND p.batch_points > 0, 1, p.batch_points),
        ('history_without_account', p.account_rows = 0 AND p.batch_points = 0, 1, 0),
        ('batches_left_out', p.account_rows > 0 AND NOT p.is_account AND p.batch_points > 0, 1, p.batch_points)
    ) AS f (class, holds, rows, points)
    WHERE f.holds AND (f.class <> 'totals_differ' OR $1)
    UNION ALL
    SELECT 'account_in_use', o.user_id, NULL, 1, sum(abs(o.points))
    FROM pointsd.adopted_openings AS o
    JOIN pointsd.accounts AS a ON a.bucket = pointsd.bucket_of(o.user_id) AND a.user_id = o.user_id AND a.last_seq > 0
    GROUP BY o.user_id
    UNION ALL
    SELECT 'account_twice', user_id, min(old_user), count(*), coalesce(sum(abs(balance)), 0)
    FROM pointsd.adopted_accounts
    WHERE user_id IS NOT NULL
    GROUP BY user_id
    HAVING count(*) > 1
    UNION ALL
    SELECT 'account_unreadable', user_id, min(old_user), count(*), coalesce(sum(abs(balance)), 0)
    FROM pointsd.adopted_accounts
    WHERE user_id IS NULL OR balance IS NULL
    GROUP BY user_id
    UNION ALL
    SELECT 'batch_unreadable', user_id, NULL, count(*), coalesce(sum(abs(remaining)), 0)
    FROM pointsd.adopted_batches
    WHERE user_id IS NULL OR remaining IS NULL OR remaining < 0 OR remaining > 0 AND expires_at IS NULL
    GROUP BY user_id
    UNION ALL
    SELECT 'batch_id_twice', user_id, NULL, sum(rows), sum(points)
    FROM (
        SELECT user_id, count(*) AS rows, sum(remaining) AS points
        FROM pointsd.adopted_batches
        WHERE user_id IS NOT NULL AND remaining > 0
        GROUP BY user_id, id
        HAVING count(*) > 1
    ) AS twice
    GROUP BY user_id
    UNION ALL
    SELECT 'price_unreadable', user_id, NULL, count(*), coalesce(sum(remaining), 0)
    FROM pointsd.adopted_batches
    WHERE remaining > 0 AND (paid < 0 OR paid IS NOT NULL AND currency IS NULL)
    GROUP BY user_id
    UNION ALL
    SELECT 'transaction_of_other_type', user_id, NULL, count(*), coalesce(sum(abs(amount)), 0)
    FROM pointsd.adopted_transactions
    WHERE type IS NULL OR type NOT IN ('recharge', 'consume', 'expire')
    GROUP BY user_id
    UNION ALL
    SELECT 'transaction_unreadable', user_id, NULL, count(*), coalesce(sum(abs(amount)), 0)
    FROM pointsd.adopted_transactions
    WHERE user_id IS NULL OR amount IS NULL OR amount < 0 OR at IS NULL
    GROUP BY user_id
), ranked AS (
    SELECT class, user_id, old_user, rows, points, row_number() OVER most AS place,
           count(user_id) OVER class AS accounts, sum(rows) OVER class AS all_rows, sum(points) OVER class AS all_points
    FROM faults
    WINDOW class AS (PARTITION BY class), most AS (PARTITION BY class ORDER BY user_id IS NULL, points DESC, user_id)
)
SELECT class, accounts, all_rows::bigint, least(all_points, 9000000000000000000)::bigint AS all_points,
       array_agg(user_id ORDER BY place) AS users, array_agg(left(coalesce(old_user, user_id::text), 100) ORDER BY place) AS old_users,
       array_agg(least(points, 9000000000000000000)::bigint ORDER BY place) AS points
FROM ranked
WHERE place <= 5
GROUP BY class, accounts, all_rows, all_points
