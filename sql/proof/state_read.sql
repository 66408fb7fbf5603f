-- How far the proofs have come, and the time.
SELECT looked_from, full_at, clock_timestamp() AS now FROM pointsd.proof_state
