-- What each account is to open with.
--
-- Where the balance is less than the batches hold, they are cut: the points that expire soonest go first, as a use takes them.
-- Where it is more, the rest becomes a batch of its own. A debt has no batches beside it. A batch whose id is missing or taken gets one
-- of its own. Nothing is dated later than the ledger's clock, which may be behind that of the tables.
-- $1 timestamptz: when the tables were read; $2 boolean: batches are kept, not balances; $3 boolean: points that were due are
-- kept, until $4 timestamptz; $5 boolean: batches without an account become one; $6 boolean: debts charged twice are forgiven;
-- $7 text: the source of points without a batch, and of those that forgive; $8 jsonb: other names for sources
INSERT INTO pointsd.adopted_openings (user_id, nth, points, opened_at, expires_at, paid, is_forgiven, source, id, currency)
WITH target AS (
    SELECT p.user_id, p.owing_since, has.points AS has, target.points AS target, has.points - greatest(target.points, 0) AS excess,
           CASE WHEN $6 AND p.is_account THEN least(p.charged_twice, has.points - target.points) ELSE 0 END AS forgiven
    FROM pointsd.adopted_positions AS p
    CROSS JOIN LATERAL (SELECT CASE WHEN $3 THEN p.batch_points ELSE p.batch_points - p.expired END AS points) AS has
    CROSS JOIN LATERAL (
        SELECT CASE WHEN NOT p.is_account THEN has.points
                    WHEN $2 THEN CASE WHEN p.balance < 0 AND has.points = 0 THEN p.balance ELSE has.points END
                    WHEN $3 THEN p.balance
                    -- What is cut is taken from the points that were due.
                    ELSE p.balance - greatest(0, p.expired - greatest(0, p.batch_points - p.balance)) END AS points
    ) AS target
    WHERE p.is_account OR $5 AND p.account_rows = 0
), part AS (
    SELECT *, greatest(amount, remaining) AS whole, least(remaining, up_to) AS points
    FROM (
        SELECT b.*,
               sum(b.remaining) OVER (PARTITION BY b.user_id ORDER BY b.expires_at, b.opened_at, b.id ROWS UNBOUNDED PRECEDING) - t.excess AS up_to
        FROM pointsd.adopted_batches AS b
        JOIN target AS t USING (user_id)
        WHERE b.remaining > 0 AND b.expires_at IS NOT NULL AND ($3 OR b.expires_at > $1)
    ) AS cut
    WHERE up_to > 0
), opening AS (
    SELECT user_id, 1 AS kind, points, opened_at, CASE WHEN expires_at > $1 THEN expires_at ELSE $4 END AS expires_at,
           CASE WHEN currency IS NOT NULL AND paid >= 0 THEN pointsd.price_part(paid, whole - points, points, whole) END AS paid,
           coalesce($8::jsonb ->> coalesce(source, ''), source, '') AS source, left(coalesce(nullif(id, ''), 'batch'), 240) AS name,
           CASE WHEN paid >= 0 THEN currency END AS currency
    FROM part
    UNION ALL
    SELECT user_id, 1, target, owing_since, NULL, NULL, NULL, NULL, NULL FROM target WHERE target < 0
    UNION ALL
    SELECT user_id, 2, target - has, NULL, NULL, NULL, $7, 'without-batch', NULL FROM target WHERE target > 0 AND target > has
    UNION ALL
    SELECT user_id, 3, forgiven, NULL, NULL, NULL, $7, NULL, NULL FROM target WHERE forgiven > 0
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY kind, expires_at, opened_at, name) AS nth,
           row_number() OVER (PARTITION BY user_id, name ORDER BY kind, expires_at, opened_at) AS nth_of_name
    FROM opening
)
SELECT user_id, nth, points,
       -- The ledger takes no earlier date.
       greatest(least(coalesce(opened_at, $1), $1, statement_timestamp()), '1970-01-01Z'),
       expires_at, paid, kind = 3, source, CASE WHEN nth_of_name = 1 THEN name ELSE name || ' (' || nth_of_name || ')' END, currency
FROM numbered
