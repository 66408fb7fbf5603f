-- The plan, in place of an earlier one.
-- $1 uuid: its name; $2 timestamptz: when the tables were read; $3 text: where; $4 jsonb: settings; $5 jsonb: totals
INSERT INTO pointsd.adoption (plan, read_at, read_from, settings, totals)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (only_one) DO UPDATE
SET plan = excluded.plan, planned_at = clock_timestamp(), read_at = excluded.read_at, read_from = excluded.read_from,
    settings = excluded.settings, totals = excluded.totals
