-- The daemon's role: it posts, expires, proves and reports. History is only added to, and no correction: `repair` is the owner's,
-- as is the schema.
GRANT USAGE ON SCHEMA pointsd TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA pointsd TO :role;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pointsd TO :role;
GRANT USAGE ON SEQUENCE pointsd.run_fences TO :role;
GRANT SELECT ON SEQUENCE pointsd.requests_id_seq TO :role;
GRANT INSERT (user_id, balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided,
              total_opening, last_seq, expired_until, last_batch, open_holds, bucket),
      UPDATE (balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided, total_opening,
              last_seq, expired_until, last_batch, open_holds)
    ON pointsd.accounts TO :role;
GRANT INSERT, UPDATE (remaining, expired, open) ON pointsd.batches TO :role;
GRANT INSERT (user_id, seq, amount, balance_before, balance_after, at, run, refers_to, key, batch, drawing_rule, type, source_type,
              source_id, description, duration, allocated_batches, allocated_points, asked, paid, currency,
              allocated_paid, bucket)
    ON pointsd.entries TO :role;
GRANT INSERT, UPDATE (at, until, seq, state) ON pointsd.holds TO :role;
GRANT INSERT, UPDATE ON pointsd.run_parts TO :role;
GRANT UPDATE ON pointsd.request_lanes TO :role;
GRANT DELETE ON pointsd.two_phases TO :role;
GRANT INSERT, UPDATE, DELETE ON pointsd.jobs, pointsd.runs, pointsd.daemons, pointsd.requests, pointsd.requests_done, pointsd.checkpoints,
    pointsd.findings, pointsd.proof_state, pointsd.days, pointsd.day_money, pointsd.day_seals, pointsd.documents, pointsd.arrears_closing, pointsd.expiry_forecast,
    pointsd.days_reported, pointsd.outbox TO :role;
GRANT INSERT, UPDATE (last_used_at, revoked_at, revoked_by) ON pointsd.tokens TO :role;
GRANT INSERT, UPDATE (outcome), DELETE ON pointsd.audit TO :role;
GRANT INSERT ON pointsd.periods TO :role;
