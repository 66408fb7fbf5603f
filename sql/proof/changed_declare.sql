-- Lists the users whose accounts have entries recorded since the last proof, and those with standing findings. The list is
-- made once and stays on the server. See sql/ledger/due_declare.sql.
-- $1 timestamptz, $2 timestamptz: recorded after the end of the last proof, and until the end of this one
-- $3 uuid: the last user of an interrupted attempt; null if there is none
DECLARE changed SCROLL CURSOR WITH HOLD FOR
SELECT user_id, bool_or(has_finding) AS has_finding
FROM (SELECT user_id, false AS has_finding FROM pointsd.entries WHERE recorded_at > $1 AND recorded_at <= $2
      UNION ALL
      SELECT user_id, true FROM pointsd.findings WHERE resolved_at IS NULL AND user_id IS NOT NULL) AS listed
WHERE $3::uuid IS NULL OR user_id > $3
GROUP BY user_id ORDER BY user_id
