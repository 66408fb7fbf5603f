-- Whether a finding about the ledger as a whole stands.
SELECT EXISTS (SELECT FROM reports.findings WHERE user_id IS NULL AND cured IS NULL)
