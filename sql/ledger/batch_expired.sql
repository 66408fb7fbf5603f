-- The batches from which late consumes may restore points: they expired with points in them, but not before the work was done. A
-- consume that captures a hold counts from the hold on.
-- $1 uuid[], $2 timestamptz[]: users of locked accounts, and the earliest consume of each, pairwise; $3 uuid[]: the keys of holds that
-- consumes may capture; $4 smallint: the bucket of the accounts
SELECT b.user_id, b.batch, b.amount, b.remaining, b.expired, b.source, b.opened_at, b.expires_at, b.paid, b.currency
FROM unnest($1::uuid[], $2::timestamptz[]) AS late (user_id, since)
CROSS JOIN LATERAL (
    SELECT min(h.at) AS at
    FROM pointsd.holds AS h
    WHERE h.bucket = $4::smallint AND h.key = ANY ($3::uuid[]) AND h.user_id = late.user_id AND h.state = 'open'
) AS held
JOIN pointsd.batches AS b ON b.bucket = $4::smallint AND b.user_id = late.user_id
WHERE b.expired > 0 AND b.expires_at > least(late.since, held.at)
