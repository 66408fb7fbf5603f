-- A role that reads: for balances, exports and reports, and for queries by hand.
GRANT USAGE ON SCHEMA pointsd TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA pointsd TO :role;
-- Not the hashes.
REVOKE SELECT ON pointsd.tokens FROM :role;
GRANT SELECT (token, name, scopes, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by) ON pointsd.tokens TO :role;
GRANT EXECUTE ON FUNCTION pointsd.account, pointsd.account_then, pointsd.adopted_totals, pointsd.check TO :role;
GRANT SELECT ON SEQUENCE pointsd.requests_id_seq TO :role;
