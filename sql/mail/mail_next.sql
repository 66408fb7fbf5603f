-- Returns the time, and when the next mail is due; null if none is left.
SELECT clock_timestamp(), min(CASE state WHEN 'waiting' THEN due ELSE held_until END)
FROM pointsd.outbox
WHERE state IN ('waiting', 'sending')
