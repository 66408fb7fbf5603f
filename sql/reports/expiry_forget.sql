-- What a new report saw of the hour before it takes the place of what the last one did.
DELETE FROM pointsd.expired_seen
