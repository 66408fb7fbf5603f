-- Keeps what a report on arrears closed with, for the next one. What a report of a later instant left stays.
-- $1 timestamptz: its slot; $2 timestamptz: the instant that it shows; $3 bigint: accounts; $4 bigint: points owed by the
-- account balances; $5 bigint: points owed by the entries
INSERT INTO pointsd.arrears_closing (slot, as_of, accounts, owed, booked)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (one) DO UPDATE
SET slot = excluded.slot, as_of = excluded.as_of, accounts = excluded.accounts, owed = excluded.owed,
    booked = excluded.booked
WHERE arrears_closing.as_of <= excluded.as_of
