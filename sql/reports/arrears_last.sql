-- What the last report on arrears closed with, and the instant of this snapshot.
SELECT now() AS now, c.slot, c.as_of, c.accounts, c.owed
FROM (VALUES (true)) AS one (one)
LEFT JOIN pointsd.arrears_closing AS c USING (one)
