-- Deletes the last forecast: a new one takes its place. One of a later instant stays.
-- $1 timestamptz: the instant that the new one shows
DELETE FROM pointsd.expiry_forecast WHERE as_of <= $1
