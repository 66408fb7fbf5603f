-- $1: its name; $2: scopes; $3: hash of the secret; $4: the user that makes it; $5: when it ends, or NULL. No row if the name is taken.
INSERT INTO pointsd.tokens (name, scopes, hash, created_by, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING token, name, scopes, created_at, created_by, expires_at, last_used_at, revoked_at
