-- Lists the users whose accounts have entries recorded since the last proof, and those with open findings. The list is
-- made once and stays on the server. See sql/ledger/due_declare.sql.
-- $1 timestamptz, $2 timestamptz: recorded after the end of the last proof, and until the end of this one
-- $3 smallint, $4 uuid: bucket and user that an interrupted attempt did last; the user is null if there is none
DECLARE changed SCROLL CURSOR WITH HOLD FOR
SELECT bucket, user_id, bool_or(has_finding) AS has_finding
FROM (SELECT bucket, user_id, false AS has_finding FROM pointsd.entries WHERE recorded_at > $1 AND recorded_at <= $2
      UNION ALL
      SELECT bucket, user_id, true FROM pointsd.findings WHERE resolved_at IS NULL AND user_id IS NOT NULL) AS listed
WHERE $4::uuid IS NULL OR (bucket, user_id) > ($3::smallint, $4)
GROUP BY bucket, user_id ORDER BY bucket, user_id
