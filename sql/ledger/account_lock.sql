-- Locks the accounts of a group in user_id order, so that two groups over the same accounts wait for each other instead of
-- blocking each other for good, and reads them. A row for which the statement had to wait is read as the other transaction left
-- it. Batches and keys of the account are read by later statements, with snapshots that are taken after the locks. There is a
-- row also where no account is there yet: it tells the clock, and its user_id is null. There is none if the accounts were
-- spread over another number of buckets than the caller knows.
-- $1 uuid[]: the users; $2 smallint: their bucket; $3 smallint: the number of buckets that the caller knows
WITH locked AS (
    SELECT user_id, balance, total_recharged, total_consumed, total_expired, total_refunded, total_voided, total_adjusted,
           total_opening, last_seq, expired_until, last_batch, open_holds
    FROM pointsd.accounts
    WHERE bucket = $2::smallint AND user_id = ANY ($1::uuid[])
    ORDER BY user_id
    FOR NO KEY UPDATE
)
SELECT locked.*, clock.now
FROM (SELECT clock_timestamp() AS now WHERE $3::smallint = pointsd.buckets()) AS clock LEFT JOIN locked ON true
