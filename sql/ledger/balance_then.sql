-- One account's books at a past instant.
-- $1 uuid: the user; $2 timestamptz, $3 timestamptz: as_of, or effective_at; the other is null
SELECT balance, arrears, total_recharged, total_consumed, total_expired, total_refunded, total_voided, total_adjusted,
       total_opening
FROM pointsd.account_then($1, $2, $3)
