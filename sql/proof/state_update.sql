-- Records that a proof has ended.
-- $1 timestamptz: it proved the entries recorded until this instant; $2 boolean: whether it was a full one
UPDATE pointsd.proof_state SET proved_until = $1, full_until = CASE WHEN $2 THEN $1 ELSE full_until END
