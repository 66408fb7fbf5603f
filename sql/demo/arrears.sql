-- The ten who owe most, and since which entry: the last one that took the account below zero.
SELECT a.user_id, -a.balance, below.at, below.source_type
FROM pointsd.accounts AS a
CROSS JOIN LATERAL (
    SELECT e.at, e.source_type
    FROM pointsd.entries AS e
    WHERE e.user_id = a.user_id AND e.balance_before >= 0 AND e.balance_after < 0
    ORDER BY e.seq DESC
    LIMIT 1
) AS below
WHERE a.balance < 0
ORDER BY a.balance, a.user_id
LIMIT 10
