-- An entry has 1 to 1,000,000,000,000 points (an adjust entry also 0). Its balance_after is its balance_before moved by them,
-- in the direction of its type; an adjust entry and an opening move either way.
-- Left to entry_chain: an entry that would be right with its predecessor's balance_after, so its balance_before is wrong.
-- The next balance of the account decides which of amount and balance_after is wrong.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH entry AS (
    SELECT e.user_id, e.seq, e.type, e.amount, e.balance_before, e.balance_after,
           CASE WHEN e.type IN ('recharge', 'refund', 'restore') THEN e.balance_before::numeric + e.amount
                WHEN e.type IN ('adjust', 'opening') THEN e.balance_before + e.amount::numeric
                    * CASE WHEN e.balance_after < e.balance_before THEN -1 ELSE 1 END
                ELSE e.balance_before::numeric - e.amount END AS follows,
           CASE WHEN e.type IN ('recharge', 'refund', 'restore') THEN e.balance_after::numeric - e.balance_before
                WHEN e.type IN ('adjust', 'opening') THEN abs(e.balance_after::numeric - e.balance_before)
                ELSE e.balance_before::numeric - e.balance_after END AS moved,
           CASE e.type WHEN 'adjust' THEN 0 ELSE 1 END AS least,
           lag(e.balance_after, 1, 0::bigint) OVER chain AS before,
           coalesce(lead(e.balance_before) OVER chain, a.balance) AS next
    FROM pointsd.entries AS e
    LEFT JOIN pointsd.accounts AS a ON a.bucket = $2 AND a.user_id = e.user_id
    WHERE e.bucket = $2 AND e.user_id = ANY ($1::uuid[])
    WINDOW chain AS (PARTITION BY e.user_id ORDER BY e.seq)
), wrong AS (
    SELECT *, next <> balance_after AND next = follows OR moved NOT BETWEEN least AND 1000000000000 AS after_is_wrong
    FROM entry
    WHERE amount NOT BETWEEN least AND 1000000000000
       OR moved <> amount
          AND NOT (before <> balance_before
                   AND amount = CASE WHEN type IN ('recharge', 'refund', 'restore') THEN balance_after::numeric - before
                                     WHEN type IN ('adjust', 'opening') THEN abs(balance_after::numeric - before)
                                     ELSE before::numeric - balance_after END)
)
SELECT user_id, NULL::integer AS batch, seq,
       CASE WHEN moved = amount THEN format('amount %s to 1000000000000', least)
            WHEN after_is_wrong THEN 'balance_after ' || follows
            ELSE 'amount ' || moved END AS expected,
       CASE WHEN moved = amount OR after_is_wrong IS NOT TRUE THEN 'amount ' || amount
            ELSE 'balance_after ' || balance_after END AS found,
       CASE WHEN moved = amount THEN NULL
            WHEN after_is_wrong THEN pointsd.clamp_bigint(balance_after - follows)
            ELSE pointsd.clamp_bigint(amount - moved) END AS points
FROM wrong
