-- All tokens, the oldest first.
SELECT token, name, scopes, created_at, created_by, expires_at, last_used_at, revoked_at FROM pointsd.tokens ORDER BY token
