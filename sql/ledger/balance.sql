-- One account's books, and what of it is available at an instant.
-- $1 uuid: the user; $2 timestamptz: the instant
SELECT balance, available, held, arrears, total_recharged, total_consumed, total_expired, total_refunded, total_voided,
       total_adjusted, total_opening, next_expiry, next_expiry_points
FROM pointsd.account($1, $2)
