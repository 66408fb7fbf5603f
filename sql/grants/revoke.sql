-- Takes back what a role has, so that it has what the statements after these give, and no more.
REVOKE ALL ON ALL TABLES IN SCHEMA pointsd FROM :role;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA pointsd FROM :role;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pointsd FROM :role;
REVOKE ALL ON SCHEMA pointsd FROM :role;
