-- Breaks the seals of the closed days: the next reconciliation computes them anew from their entries.
DELETE FROM pointsd.day_seals
