-- A proof came to its end.
-- $1 timestamptz: when it began
-- $2 boolean: whether it looked at everything
UPDATE pointsd.proof_state SET looked_from = $1, full_at = CASE WHEN $2 THEN $1 ELSE full_at END
