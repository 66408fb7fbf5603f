-- A daemon stops in order.
-- $1 text, $2 integer: host and process
DELETE FROM pointsd.daemons WHERE host = $1 AND pid = $2
