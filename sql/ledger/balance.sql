-- One account's books, and what of it is available at an instant; and what it came to in another service before.
-- $1 uuid: the user; $2 timestamptz: the instant
SELECT a.balance, a.available, a.held, a.arrears, a.total_recharged, a.total_consumed, a.total_expired, a.total_refunded, a.total_voided,
       a.total_adjusted, a.total_opening, a.next_expiry, a.next_expiry_points,
       before.recharged AS before_recharged, before.consumed AS before_consumed, before.expired AS before_expired
FROM pointsd.account($1, $2) AS a, pointsd.adopted_totals($1) AS before
