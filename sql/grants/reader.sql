-- A role that reads: for balances, exports and reports, and for queries by hand.
GRANT USAGE ON SCHEMA pointsd TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA pointsd TO :role;
GRANT EXECUTE ON FUNCTION pointsd.account, pointsd.account_then, pointsd.check TO :role;
GRANT SELECT ON SEQUENCE pointsd.requests_id_seq TO :role;
