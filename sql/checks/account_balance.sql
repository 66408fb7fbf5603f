-- An account's balance is the balance_after of its last entry.
-- Left to entry_amount: a last entry with a balance_after that does not follow from it, while the account's balance does.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT a.user_id, NULL::integer AS batch, NULL::bigint AS seq, coalesce(last.after, 0)::text AS expected,
       a.balance::text AS found,
       pointsd.clamp_bigint(a.balance - coalesce(last.after, 0)::numeric) AS points
FROM pointsd.accounts AS a
LEFT JOIN LATERAL (
    SELECT e.balance_after AS after,
           CASE
               WHEN e.type IN ('recharge', 'refund', 'restore') THEN e.balance_after = e.balance_before::numeric + e.amount
               WHEN e.type IN ('adjust', 'opening') THEN abs(e.balance_after::numeric - e.balance_before) = e.amount
               ELSE e.balance_after = e.balance_before::numeric - e.amount
           END AS follows,
           CASE
               WHEN e.type IN ('recharge', 'refund', 'restore') THEN a.balance = e.balance_before::numeric + e.amount
               WHEN e.type IN ('adjust', 'opening') THEN abs(a.balance::numeric - e.balance_before) = e.amount
               ELSE a.balance = e.balance_before::numeric - e.amount
           END AS account_follows
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = a.user_id
    ORDER BY e.seq DESC
    LIMIT 1
) AS last ON true
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[]) AND a.balance <> coalesce(last.after, 0)
  AND (NOT last.follows AND last.account_follows) IS NOT TRUE
