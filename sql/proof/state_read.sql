-- Loads how far the proofs have come.
SELECT proved_until, full_until FROM pointsd.proof_state
