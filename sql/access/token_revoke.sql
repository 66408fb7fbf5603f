-- $1: name; $2: the user that revokes it.
UPDATE pointsd.tokens SET revoked_at = clock_timestamp(), revoked_by = $2 WHERE name = $1 AND revoked_at IS NULL
