-- Lists the users whose accounts have new entries, and those with findings that stand; found once, kept on the server. See
-- sql/ledger/due_declare.sql.
-- $1 timestamptz: the end of the last proof. An entry's recorded_at is taken before its transaction commits, so an entry that
--   the last proof could not see yet may be a little older: an hour is far beyond any posting's transaction.
-- $2 uuid: the last user of an interrupted attempt; null if there is none
DECLARE changed SCROLL CURSOR WITH HOLD FOR
SELECT user_id, bool_or(has_finding) AS has_finding
FROM (SELECT user_id, false AS has_finding FROM pointsd.entries WHERE recorded_at > $1::timestamptz - interval '1 hour'
      UNION ALL
      SELECT user_id, true FROM pointsd.findings WHERE resolved_at IS NULL AND user_id IS NOT NULL) AS listed
WHERE $2::uuid IS NULL OR user_id > $2
GROUP BY user_id ORDER BY user_id
