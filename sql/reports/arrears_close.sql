-- What a report on arrears closed with, for the next one.
-- $1 timestamptz: its slot; $2 timestamptz: the instant of its snapshot; $3 bigint, $4 bigint: accounts and points owed
INSERT INTO pointsd.arrears_closing (slot, as_of, accounts, owed)
VALUES ($1, $2, $3, $4)
ON CONFLICT (one) DO UPDATE
SET slot = excluded.slot, as_of = excluded.as_of, accounts = excluded.accounts, owed = excluded.owed
