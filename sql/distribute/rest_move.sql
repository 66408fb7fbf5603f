-- Moves what no index finds by the user: holds, findings and old keys.
SELECT pointsd.move_rest()
