-- How far the balances of the other service and those of the ledger agree, and by what they differ: by what the plan decided, and since
-- then by recharges, uses and expiry, as far as both count them. What was decided makes no account differ; so several rows of one user,
-- which the plan left out, are compared by their sum. All sums in each row, beside the accounts that differ most.
-- $1 bigint: how many of them
WITH now_there AS (
    SELECT user_id, min(old_user) AS old_user, sum(balance)::bigint AS balance, sum(total_recharged)::bigint AS recharged,
           sum(total_consumed)::bigint AS consumed, sum(total_expired)::bigint AS expired
    FROM pg_temp.followed
    WHERE user_id IS NOT NULL
    GROUP BY user_id
), then_there AS (
    SELECT user_id, sum(balance)::bigint AS balance, sum(total_recharged)::bigint AS recharged, sum(total_consumed)::bigint AS consumed,
           sum(total_expired)::bigint AS expired
    FROM pointsd.adopted_accounts
    WHERE user_id IS NOT NULL
    GROUP BY user_id
), forgiven AS (
    SELECT user_id, sum(points)::bigint AS points FROM pointsd.adopted_openings WHERE is_forgiven GROUP BY user_id
), pair AS (
    SELECT user_id, n.old_user, coalesce(n.balance, 0) AS there, coalesce(a.balance, 0) AS here,
           coalesce(a.total_opening, 0) + coalesce(f.points, 0) - coalesce(o.balance, 0) AS decided,
           coalesce(coalesce(a.total_recharged, 0) - coalesce(f.points, 0) - (n.recharged - coalesce(o.recharged, 0)), 0) AS recharged,
           coalesce((n.consumed - coalesce(o.consumed, 0)) - coalesce(a.total_consumed, 0), 0) AS used,
           coalesce((n.expired - coalesce(o.expired, 0)) - coalesce(a.total_expired, 0), 0) AS expired
    FROM now_there AS n
    FULL JOIN pointsd.accounts AS a USING (user_id)
    LEFT JOIN then_there AS o USING (user_id)
    LEFT JOIN forgiven AS f USING (user_id)
), summed AS (
    SELECT count(*) AS accounts, count(*) FILTER (WHERE here - there <> decided) AS different, coalesce(sum(there), 0)::bigint AS there,
           coalesce(sum(here), 0)::bigint AS here, coalesce(sum(decided), 0)::bigint AS decided,
           coalesce(sum(recharged), 0)::bigint AS recharged, coalesce(sum(used), 0)::bigint AS used, coalesce(sum(expired), 0)::bigint AS expired
    FROM pair
), most AS (
    SELECT * FROM pair WHERE here - there <> decided ORDER BY abs(here - there - decided) DESC, user_id LIMIT $1
)
SELECT summed.accounts, summed.different, summed.there AS all_there, summed.here AS all_here, summed.decided AS all_decided,
       summed.recharged AS all_recharged, summed.used AS all_used, summed.expired AS all_expired,
       most.user_id, left(coalesce(most.old_user, most.user_id::text), 100) AS old_user, most.there, most.here, most.decided, most.recharged, most.used, most.expired
FROM summed LEFT JOIN most ON true
ORDER BY abs(most.here - most.there - most.decided) DESC, most.user_id
