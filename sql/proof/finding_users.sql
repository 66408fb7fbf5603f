-- The accounts with findings that stand.
SELECT DISTINCT user_id FROM pointsd.findings WHERE cured IS NULL AND user_id IS NOT NULL ORDER BY user_id
