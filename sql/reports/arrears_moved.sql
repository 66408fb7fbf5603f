-- What entries of a bucket recorded in a span did to arrears, an account a row. `opening` is the arrears by the entry before the span's
-- first one; `closing` is the arrears by the account's balance at the end of the span: an account with a later entry has the
-- balance that its first later entry began with. `out` is the last entry that took the account out of arrears.
-- A correction (adjust) is no usage and no repayment, so it is summed apart, and so is a debt that the account brought along. A restore stands directly before the consume that uses
-- its points: it repays nothing, and the two together draw what was not restored.
-- $1 timestamptz: entries recorded later …; $2 timestamptz: … and up to this instant; $3 smallint: the bucket
WITH moved AS MATERIALIZED (
    SELECT user_id, min(seq) AS first_seq, max(seq) AS last_seq,
           pointsd.clamp_bigint(coalesce(sum(after - before) FILTER (WHERE type IN ('consume', 'void', 'restore', 'expire')), 0)) AS drawn,
           pointsd.clamp_bigint(coalesce(sum(before - after) FILTER (WHERE type IN ('recharge', 'refund')), 0)) AS repaid,
           pointsd.clamp_bigint(coalesce(sum(after - before) FILTER (WHERE type = 'adjust'), 0)) AS corrected,
           pointsd.clamp_bigint(coalesce(sum(after - before) FILTER (WHERE type = 'opening'), 0)) AS opened,
           bool_or(type = 'adjust') AS has_corrections
    FROM (
        SELECT user_id, seq, type, greatest(-balance_before, 0) AS before, greatest(-balance_after, 0) AS after
        FROM pointsd.entries
        WHERE bucket = $3::smallint AND recorded_at > $1 AND recorded_at <= $2
          AND (balance_before < 0 OR balance_after < 0 OR type = 'adjust')
    ) AS e
    GROUP BY user_id
)
SELECT m.user_id, coalesce(greatest(-prior.balance_after, 0), 0) AS opening, m.drawn, m.repaid, m.corrected,
       m.opened, m.has_corrections, coalesce(greatest(-coalesce(later.balance, a.balance), 0), 0) AS closing,
       out.at AS out_at, out.type AS out_type, out.source_type AS out_source
FROM moved AS m
LEFT JOIN LATERAL (
    SELECT a.balance FROM pointsd.accounts AS a WHERE a.bucket = $3::smallint AND a.user_id = m.user_id OFFSET 0
) AS a ON true
LEFT JOIN LATERAL (
    SELECT e.balance_after
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = m.user_id AND e.seq = m.first_seq - 1
    OFFSET 0
) AS prior ON true
LEFT JOIN LATERAL (
    SELECT coalesce((e.correction #>> '{account,before,balance}')::bigint, e.balance_before) AS balance
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = m.user_id AND e.seq > m.last_seq AND e.recorded_at > $2
    ORDER BY e.seq
    LIMIT 1
) AS later ON true
LEFT JOIN LATERAL (
    SELECT e.at, e.type, e.source_type
    FROM pointsd.entries AS e
    WHERE e.bucket = $3::smallint AND e.user_id = m.user_id AND e.seq BETWEEN m.first_seq AND m.last_seq
      AND e.balance_before < 0 AND e.balance_after >= 0 AND e.type <> 'restore'
    ORDER BY e.seq DESC
    LIMIT 1
) AS out ON true
ORDER BY m.user_id
