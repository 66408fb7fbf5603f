-- An entry's balance_before is its predecessor's balance_after, and 0 for the first.
-- Where it is the predecessor's balance_after that does not follow from the predecessor, and this balance_before would,
-- the predecessor is what entry_amount finds.
-- $1 uuid[]: the users
SELECT user_id, NULL::integer AS batch, seq, 'balance_before ' || before AS expected,
       'balance_before ' || balance_before AS found
FROM (
    SELECT user_id, seq, balance_before,
           lag(balance_after, 1, 0::bigint) OVER chain AS before,
           lag(type) OVER chain AS type, lag(amount) OVER chain AS amount, lag(balance_before) OVER chain AS start
    FROM pointsd.entries
    WHERE user_id = ANY ($1::uuid[])
    WINDOW chain AS (PARTITION BY user_id ORDER BY seq)
) AS e
WHERE balance_before <> before
  AND CASE type
          WHEN 'recharge' THEN before <> start::numeric + amount AND balance_before = start::numeric + amount
          WHEN 'adjust' THEN abs(before::numeric - start) <> amount AND abs(balance_before::numeric - start) = amount
          ELSE before <> start::numeric - amount AND balance_before = start::numeric - amount
      END IS NOT TRUE
