-- The time, and when the next mail is to be tried; null where none is left.
SELECT clock_timestamp(), min(CASE state WHEN 'waiting' THEN due ELSE held_until END)
FROM pointsd.outbox
WHERE state IN ('waiting', 'sending')
