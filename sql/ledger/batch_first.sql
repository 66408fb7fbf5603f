-- The open batch of each locked account that is drawn first, if it expires up to an instant; with others that expire together with
-- it, because their order is the state machine's business.
-- $1 uuid[], $2 timestamptz[]: user and instant, pairwise; $3 smallint: the bucket of the accounts
SELECT b.*
FROM unnest($1::uuid[], $2::timestamptz[]) AS asked (user_id, until)
CROSS JOIN LATERAL (
    SELECT there.user_id, there.batch, there.amount, there.remaining, there.expired, there.source, there.opened_at,
           there.expires_at, there.paid, there.currency
    FROM pointsd.batches AS there
    WHERE there.bucket = $3::smallint AND there.user_id = asked.user_id AND there.open AND there.expires_at <= asked.until
    ORDER BY there.expires_at
    FETCH FIRST ROW WITH TIES
) AS b
