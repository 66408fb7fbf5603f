-- The size of all entries on disk, in bytes.
SELECT pg_relation_size('pointsd.entries')
