-- Writes the account's row of a repair. The row is locked.
-- $1 uuid: the user; $2..$13: the columns
UPDATE pointsd.accounts
SET balance = $2, total_recharged = $3, total_consumed = $4, total_expired = $5, total_refunded = $6,
    total_voided = $7, total_adjusted = $8, last_seq = $9, last_batch = $10, expired_until = $11::text::timestamptz,
    open_holds = $12, total_opening = $13
WHERE bucket = pointsd.bucket_of($1) AND user_id = $1
