-- The tokens that may be used now. There are few.
SELECT token, name, scopes, hash, expires_at, last_used_at FROM pointsd.tokens
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
