-- An entry's balance_before is its predecessor's balance_after; the first entry's is 0.
-- Left to entry_amount: a predecessor with a balance_after that does not follow from it, while this balance_before does.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT user_id, NULL::integer AS batch, seq, 'balance_before ' || before AS expected,
       'balance_before ' || balance_before AS found, pointsd.clamp_bigint(balance_before::numeric - before) AS points
FROM (
    SELECT user_id, seq, balance_before,
           lag(balance_after, 1, 0::bigint) OVER chain AS before,
           lag(type) OVER chain AS type, lag(amount) OVER chain AS amount, lag(balance_before) OVER chain AS start
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
    WINDOW chain AS (PARTITION BY user_id ORDER BY seq)
) AS e
WHERE balance_before <> before
  AND CASE
          WHEN type IN ('recharge', 'refund', 'restore')
              THEN before <> start::numeric + amount AND balance_before = start::numeric + amount
          WHEN type IN ('adjust', 'opening') THEN abs(before::numeric - start) <> amount AND abs(balance_before::numeric - start) = amount
          ELSE before <> start::numeric - amount AND balance_before = start::numeric - amount
      END IS NOT TRUE
