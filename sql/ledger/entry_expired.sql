-- How many entries of an account are dated within a period, and what those among them took by expiry, less what they restored.
-- $1 uuid: the user; $2 bigint: numbers after this one; $3 timestamptz, $4 timestamptz: effective from and before
SELECT count(*) AS entries,
       coalesce(sum(CASE type WHEN 'expire' THEN amount WHEN 'restore' THEN -amount END), 0)::bigint AS expired
FROM pointsd.entries
WHERE bucket = 0 AND user_id = $1 AND seq > $2 AND at >= $3 AND at < $4
