-- Lets one transaction at a time close business days, until it ends. The number is "days" in ASCII.
SELECT pg_advisory_xact_lock(x'64617973'::bigint)
