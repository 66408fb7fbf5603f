-- Forgets an earlier plan, and drops the indexes of the copies.
SELECT pointsd.clear_adopted()
