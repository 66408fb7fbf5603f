-- Keeps the last business day whose roll-forward a report on reconciliation has shown. A later day stays.
-- $1 date: the day; $2 timestamptz: the instant that the report shows
INSERT INTO pointsd.days_reported (day, as_of)
VALUES ($1, $2)
ON CONFLICT (one) DO UPDATE SET day = excluded.day, as_of = excluded.as_of
WHERE days_reported.day < excluded.day
