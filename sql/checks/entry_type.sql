-- An entry's type is known. Recharges and consumes have a key, recharges a batch, adjust entries a correction; other entries
-- have none of these.
-- $1 uuid[]: the users
SELECT user_id, NULL::integer AS batch, seq,
       CASE WHEN NOT known THEN 'recharge, consume, expire or adjust'
            ELSE type || ' with ' || concat_ws(' and ',
                CASE WHEN keyed <> needs_key THEN CASE WHEN needs_key THEN 'a key' ELSE 'no key' END END,
                CASE WHEN opens <> needs_batch THEN CASE WHEN needs_batch THEN 'a batch' ELSE 'no batch' END END,
                CASE WHEN corrects <> needs_correction
                    THEN CASE WHEN needs_correction THEN 'a correction' ELSE 'no correction' END END)
       END AS expected,
       CASE WHEN NOT known THEN type
            ELSE type || ' with ' || concat_ws(' and ',
                CASE WHEN keyed <> needs_key THEN CASE WHEN keyed THEN 'a key' ELSE 'no key' END END,
                CASE WHEN opens <> needs_batch THEN CASE WHEN opens THEN 'a batch' ELSE 'no batch' END END,
                CASE WHEN corrects <> needs_correction
                    THEN CASE WHEN corrects THEN 'a correction' ELSE 'no correction' END END)
       END AS found,
       NULL::bigint AS points
FROM (
    SELECT user_id, seq, type, type IN ('recharge', 'consume', 'expire', 'adjust') AS known,
           key IS NOT NULL AS keyed, type IN ('recharge', 'consume') AS needs_key,
           batch IS NOT NULL AS opens, type = 'recharge' AS needs_batch,
           correction IS NOT NULL AS corrects, type = 'adjust' AS needs_correction
    FROM pointsd.entries
    WHERE bucket = 0 AND user_id = ANY ($1::uuid[])
) AS e
WHERE NOT known OR keyed <> needs_key OR opens <> needs_batch OR corrects <> needs_correction
