-- Who owes, in order of what they owe. Since when: the last entry that took the account below zero, found from its last
-- entry backwards; an account whose history has none is told without it.
SELECT a.user_id, -a.balance AS owed, below.seq, below.at AS since, below.source_type, last.at AS last_at
FROM pointsd.accounts AS a
LEFT JOIN LATERAL (
    SELECT e.seq, e.at, e.source_type
    FROM pointsd.entries AS e
    WHERE e.user_id = a.user_id AND e.balance_before >= 0 AND e.balance_after < 0
    ORDER BY e.seq DESC
    LIMIT 1
) AS below ON true
LEFT JOIN LATERAL (
    SELECT e.at FROM pointsd.entries AS e WHERE e.user_id = a.user_id ORDER BY e.seq DESC LIMIT 1
) AS last ON true
WHERE a.in_arrears
ORDER BY a.balance, a.user_id
