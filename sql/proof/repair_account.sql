-- Writes the account's row of a repair. The row is locked.
-- $1 uuid: the user; $2..$8: the columns
UPDATE pointsd.accounts
SET balance = $2, total_recharged = $3, total_consumed = $4, total_expired = $5, total_adjusted = $6, last_seq = $7,
    last_batch = $8
WHERE bucket = 0 AND user_id = $1
