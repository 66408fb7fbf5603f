-- Loads how far the proofs have come. An instant in the future was written while the server's clock was ahead; it proves nothing, so
-- the next proof is a full one.
SELECT CASE WHEN proved_until <= clock_timestamp() THEN proved_until END AS proved_until,
       CASE WHEN full_until <= clock_timestamp() THEN full_until END AS full_until
FROM pointsd.proof_state
