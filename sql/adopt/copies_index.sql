-- Makes the indexes of the copies.
SELECT pointsd.index_adopted()
