-- What each account is to open with.
--
-- Where the balance is less than the batches hold, they are cut: the points that expire soonest go first, as a use takes them.
-- Where it is more, the rest becomes a batch of its own. A debt has no batches beside it. An id that names a second batch of an account
-- gets a number.
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
    SELECT *, greatest(amount, remaining) AS whole, least(remaining, up_to) AS points,
           CASE WHEN row_number() OVER same_name = 1 THEN name ELSE name || ' (' || row_number() OVER same_name || ')' END AS own_name
    FROM (
        SELECT b.*, left(coalesce(nullif(b.id, ''), 'batch'), 240) AS name,
               sum(b.remaining) OVER (PARTITION BY b.user_id ORDER BY b.expires_at, b.opened_at, b.id ROWS UNBOUNDED PRECEDING) - t.excess AS up_to
        FROM pointsd.adopted_batches AS b
        JOIN target AS t USING (user_id)
        WHERE b.remaining > 0 AND b.expires_at IS NOT NULL AND ($3 OR b.expires_at > $1)
    ) AS cut
    WHERE up_to > 0
    WINDOW same_name AS (PARTITION BY user_id, name ORDER BY expires_at, opened_at, id)
), opening AS (
    SELECT user_id, 1 AS kind, points, least(opened_at, $1) AS opened_at, CASE WHEN expires_at > $1 THEN expires_at ELSE $4 END AS expires_at,
           CASE WHEN currency IS NOT NULL THEN pointsd.price_part(paid, whole - points, points, whole) END AS paid,
           coalesce($8::jsonb ->> coalesce(source, ''), source, '') AS source, own_name AS id, CASE WHEN paid IS NOT NULL THEN currency END AS currency
    FROM part
    UNION ALL
    SELECT user_id, 1, target, least(owing_since, $1), NULL, NULL, NULL, NULL, NULL FROM target WHERE target < 0
    UNION ALL
    SELECT user_id, 2, target - has, $1, NULL, NULL, $7, 'without-batch', NULL FROM target WHERE target > 0 AND target > has
    UNION ALL
    SELECT user_id, 3, forgiven, $1, NULL, NULL, $7, NULL, NULL FROM target WHERE forgiven > 0
)
SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY kind, expires_at, opened_at, id), points,
       -- The ledger takes no earlier date.
       greatest(coalesce(opened_at, $1), '1970-01-01Z'),
       expires_at, paid, kind = 3, source, id, currency
FROM opening
