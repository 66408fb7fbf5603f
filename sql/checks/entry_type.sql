-- An entry's type is known. Recharges, consumes, voids and openings have a key, recharges, refunds and openings of points a batch, refunds and voids the number
-- of the entry that they take back, voids what was asked, adjust entries a correction. Of a refund in several parts, the first
-- has a key and what was asked. Other entries have none of these. An expiry and a restore differ only in the direction in which they
-- move the balance.
-- Openings come before all other entries. Expiries of their batches may stand between them, and corrections, which may add up to
-- nothing. A debt is the first entry, and points do not come upon a balance below zero.
-- $1 uuid[]: the users; $2 smallint: their bucket
SELECT user_id, NULL::integer AS batch, seq,
       CASE WHEN NOT known THEN 'recharge, consume, expire, refund, void, restore, adjust or opening'
            WHEN reversed THEN CASE type WHEN 'expire' THEN 'restore' ELSE 'expire' END
            WHEN refers = needs_reference AND (refers_to < 1 OR refers_to >= seq) THEN type || ' of an earlier entry'
            WHEN displaced THEN CASE WHEN seq > first_other THEN 'opening before entry ' || first_other
                                     WHEN moved < 0 THEN 'debt as entry 1' ELSE 'opening at a balance of 0 or more' END
            ELSE type || ' with ' || concat_ws(' and ',
                CASE WHEN keyed <> needs_key THEN CASE WHEN needs_key THEN 'a key' ELSE 'no key' END END,
                CASE WHEN opens <> needs_batch THEN CASE WHEN needs_batch THEN 'a batch' ELSE 'no batch' END END,
                CASE WHEN refers <> needs_reference THEN CASE WHEN needs_reference THEN 'a reference' ELSE 'no reference' END END,
                CASE WHEN asks <> needs_asked THEN CASE WHEN needs_asked THEN 'what was asked' ELSE 'nothing asked' END END,
                CASE WHEN corrects <> needs_correction THEN CASE WHEN needs_correction THEN 'a correction' ELSE 'no correction' END END)
       END AS expected,
       CASE WHEN NOT known OR reversed THEN type
            WHEN refers = needs_reference AND (refers_to < 1 OR refers_to >= seq) THEN type || ' of entry ' || refers_to
            WHEN displaced THEN CASE WHEN seq > first_other THEN 'opening as entry ' || seq
                                     WHEN moved < 0 THEN 'debt as entry ' || seq ELSE 'opening at a balance of ' || balance_before END
            ELSE type || ' with ' || concat_ws(' and ',
                CASE WHEN keyed <> needs_key THEN CASE WHEN keyed THEN 'a key' ELSE 'no key' END END,
                CASE WHEN opens <> needs_batch THEN CASE WHEN opens THEN 'a batch' ELSE 'no batch' END END,
                CASE WHEN refers <> needs_reference THEN CASE WHEN refers THEN 'a reference' ELSE 'no reference' END END,
                CASE WHEN asks <> needs_asked THEN CASE WHEN asks THEN 'what was asked' ELSE 'nothing asked' END END,
                CASE WHEN corrects <> needs_correction THEN CASE WHEN corrects THEN 'a correction' ELSE 'no correction' END END)
       END AS found,
       NULL::bigint AS points
FROM (
    SELECT user_id, seq, type, refers_to, balance_before, balance_after::numeric - balance_before AS moved, first_other,
           type = 'opening' AND (seq > coalesce(first_other, seq)
               OR CASE WHEN balance_after < balance_before THEN seq <> 1 ELSE balance_before < 0 END) AS displaced,
           type IN ('recharge', 'consume', 'expire', 'refund', 'void', 'restore', 'adjust', 'opening') AS known,
           amount > 0 AND key IS NULL
               AND CASE type WHEN 'expire' THEN balance_after = balance_before::numeric + amount
                             WHEN 'restore' THEN balance_after = balance_before::numeric - amount
                             ELSE false END AS reversed,
           key IS NOT NULL AS keyed,
           CASE type WHEN 'refund' THEN key IS NOT NULL ELSE type IN ('recharge', 'consume', 'void', 'opening') END AS needs_key,
           batch IS NOT NULL AS opens, pointsd.opens_batch(type, balance_after > balance_before) AS needs_batch,
           refers_to IS NOT NULL AS refers, type IN ('refund', 'void') AS needs_reference,
           asked IS NOT NULL AS asks,
           CASE type WHEN 'refund' THEN key IS NOT NULL ELSE type = 'void' END AS needs_asked,
           correction IS NOT NULL AS corrects, type = 'adjust' AS needs_correction
    FROM pointsd.entries
    JOIN (
        SELECT u.user_id, (
            SELECT seq FROM pointsd.entries AS o
            WHERE o.bucket = $2 AND o.user_id = u.user_id AND o.type NOT IN ('opening', 'expire', 'adjust')
            ORDER BY seq LIMIT 1) AS first_other
        FROM (SELECT DISTINCT user_id FROM unnest($1::uuid[]) AS of (user_id)) AS u
    ) AS u USING (user_id)
    WHERE bucket = $2 AND user_id = ANY ($1::uuid[])
) AS e
WHERE NOT known OR reversed OR keyed <> needs_key OR opens <> needs_batch OR refers <> needs_reference OR asks <> needs_asked
   OR corrects <> needs_correction OR (refers_to < 1 OR refers_to >= seq) OR displaced
