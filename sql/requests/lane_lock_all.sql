-- Locks all lanes: waits until no group is under way, and keeps further ones from beginning.
SELECT FROM pointsd.request_lanes ORDER BY lane FOR UPDATE
