-- Forgets the daemons that were at work when the backup was made: none is now, and their last signs of life may look fresh.
DELETE FROM pointsd.daemons
