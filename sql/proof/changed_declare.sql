-- The users whose accounts changed since they were last looked at, and those with findings that stand; found once, kept on
-- the server. See sql/ledger/due_declare.sql.
-- $1 timestamptz: when the last proof began. An entry's recorded_at is taken before its transaction commits, so what that
--   proof could not see yet may be a little older: an hour is far beyond any posting's transaction.
-- $2 uuid: the last user that an earlier attempt was done with; null where there is none
DECLARE changed SCROLL CURSOR WITH HOLD FOR
SELECT user_id, bool_or(found) AS found
FROM (SELECT user_id, false AS found FROM pointsd.entries WHERE recorded_at > $1::timestamptz - interval '1 hour'
      UNION ALL
      SELECT user_id, true FROM pointsd.findings WHERE resolved_at IS NULL AND user_id IS NOT NULL) AS all_of_them
WHERE $2::uuid IS NULL OR user_id > $2
GROUP BY user_id ORDER BY user_id
