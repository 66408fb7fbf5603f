-- $1: the token that was used just now.
UPDATE pointsd.tokens SET last_used_at = clock_timestamp() WHERE token = $1
