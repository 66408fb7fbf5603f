-- Entries are numbered 1, 2, 3 … without gaps. The finding is an account's first gap.
-- Entries are also missing at the end if the account counts more entries and its totals hold more than the rest adds up to.
-- Left to account_numbers: an account that only counts too many.
-- $1 uuid[]: the users; $2 smallint: their bucket
WITH numbered AS (
    SELECT user_id, seq, lag(seq, 1, 0::bigint) OVER (PARTITION BY user_id ORDER BY seq) AS before
    FROM pointsd.entries
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
), gap AS (
    SELECT DISTINCT ON (user_id) user_id, before::numeric + 1 AS missing, seq
    FROM numbered
    WHERE seq <> before::numeric + 1
    ORDER BY user_id, seq
)
SELECT user_id, NULL::integer AS batch, missing::bigint AS seq, 'entry ' || missing AS expected, 'entry ' || seq AS found,
       NULL::bigint AS points
FROM gap
UNION ALL
SELECT a.user_id, NULL, s.last_seq + 1, 'entry ' || s.last_seq + 1, 'none, but the account counts ' || a.last_seq, NULL
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT coalesce(max(e.seq), 0) AS last_seq,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0) AS recharged,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0) AS consumed,
           coalesce(sum(CASE e.type WHEN 'restore' THEN -e.amount::numeric ELSE e.amount END)
                        FILTER (WHERE e.type IN ('expire', 'restore')), 0) AS expired,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'refund'), 0) AS refunded,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'void'), 0) AS voided,
           coalesce(sum(e.balance_after::numeric - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0) AS adjusted,
           coalesce(sum(e.balance_after::numeric - e.balance_before) FILTER (WHERE e.type = 'opening'), 0) AS opened
    FROM pointsd.entries AS e
    WHERE e.bucket = $2 AND e.user_id = a.user_id
) AS s
WHERE a.bucket = $2 AND a.user_id = ANY ($1::uuid[]) AND a.last_seq > s.last_seq
  AND (a.total_recharged > s.recharged OR a.total_consumed > s.consumed OR a.total_expired <> s.expired
       OR a.total_refunded > s.refunded OR a.total_voided > s.voided OR a.total_adjusted <> s.adjusted
       OR a.total_opening <> s.opened)
  AND NOT EXISTS (SELECT FROM gap WHERE gap.user_id = a.user_id)
