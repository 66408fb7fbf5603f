-- Every user of the ledger with the bucket of the rows, also those whose account row is missing, bucket by bucket. The cursor holds the
-- list on the server.
DECLARE users NO SCROLL CURSOR WITH HOLD FOR
SELECT bucket, user_id
FROM (SELECT bucket, user_id FROM pointsd.accounts
      UNION
      SELECT bucket, user_id FROM pointsd.batches
      UNION
      SELECT bucket, user_id FROM pointsd.entries
      UNION
      SELECT bucket, user_id FROM pointsd.holds) AS known
ORDER BY bucket
