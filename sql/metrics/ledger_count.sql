-- The findings that stand, and the accounts in arrears, counted up to a hundred thousand; and the server's time.
SELECT (SELECT count(*) FROM pointsd.findings WHERE resolved_at IS NULL) AS findings,
       (SELECT count(*) FROM (SELECT 1 FROM pointsd.accounts WHERE in_arrears LIMIT 100000) AS owing) AS in_arrears,
       extract(epoch FROM clock_timestamp())::bigint AS now
