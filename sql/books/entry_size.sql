-- The size of all entries on disk, in bytes.
SELECT pointsd.entries_size()
