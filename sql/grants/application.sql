-- An application's role: it inserts requests, reserves points, and asks for balances. It reaches no table of the ledger.
GRANT USAGE ON SCHEMA pointsd TO :role;
GRANT SELECT ON pointsd.requests TO :role;
-- Not the id, which the sequence gives out, nor the bucket, nor anything of the outcome.
GRANT INSERT (op, user_id, points, source, order_id, paid, currency, expires_at, source_type, source_id, duration, until, of, beyond, key,
              description, at)
    ON pointsd.requests TO :role;
GRANT EXECUTE ON FUNCTION pointsd.hold, pointsd.release, pointsd.account, pointsd.account_then, pointsd.adopted_totals, pointsd.check TO :role;
GRANT SELECT ON pointsd.balances TO :role;
