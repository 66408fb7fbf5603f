-- Lists the users with open findings.
SELECT DISTINCT user_id FROM pointsd.findings WHERE resolved_at IS NULL AND user_id IS NOT NULL ORDER BY user_id
