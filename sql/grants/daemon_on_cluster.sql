-- What the daemon's role needs besides on a cluster: the coordinator sends a row to its node with the defaults of the columns that the
-- statement leaves out, so the role needs the right to write these as well.
GRANT INSERT (recorded_at) ON pointsd.entries TO :role;
GRANT INSERT (total_adjusted) ON pointsd.accounts TO :role;
