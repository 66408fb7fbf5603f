-- The proofs: what was proved of each account, the fingerprints by which changes are found, and the findings.

-- The checkpoint of an account: its history is proved up to an entry, with the account and its batches as they were then.
CREATE TABLE pointsd.checkpoints (
    user_id         uuid     NOT NULL,
    seq             bigint   NOT NULL, -- the last entry that was proved
    balance         bigint   NOT NULL, -- after that entry
    total_recharged bigint   NOT NULL,
    total_consumed  bigint   NOT NULL,
    total_expired   bigint   NOT NULL,
    total_refunded  bigint   NOT NULL DEFAULT 0,
    total_voided    bigint   NOT NULL DEFAULT 0,
    total_adjusted  bigint   NOT NULL,
    total_opening   bigint   NOT NULL DEFAULT 0,
    expired_until   timestamptz,       -- the latest end of a batch that had expired with points by then
    batches         integer  NOT NULL, -- the account's last batch then
    bucket          smallint NOT NULL DEFAULT 0, -- the account's
    entries_print   numeric  NOT NULL, -- fingerprint of what the entries say …
    batches_print   numeric  NOT NULL, -- … of what never changes about the batches …
    drawn_print     numeric  NOT NULL, -- … and of what had been taken from each batch, and what of it had expired
    CONSTRAINT checkpoints_pkey PRIMARY KEY (bucket, user_id)
);

-- Tells the planner that all rows lie in one bucket: see the ledger's tables.
ALTER TABLE pointsd.checkpoints ALTER COLUMN bucket SET (n_distinct = 1);
INSERT INTO pointsd.checkpoints (user_id, seq, balance, total_recharged, total_consumed, total_expired, total_adjusted, batches,
                                 entries_print, batches_print, drawn_print)
SELECT gen_random_uuid(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 20);
ANALYZE pointsd.checkpoints (bucket);
SAVEPOINT sample;
TRUNCATE pointsd.checkpoints;
RELEASE SAVEPOINT sample;

-- Fingerprints. The hash of each column is the seed of the next one's hash; the user and the row's number are among them.
-- So a sum of fingerprints changes with any value in any row, and does not depend on the order of the rows. Whole numbers
-- go into the seed, where a hash takes in all 64 bits. The functions name the columns: a column added later leaves the
-- fingerprints as they are. `bucket` is left out, because an account may move to another one.
--
-- The planner puts the expressions of these functions into the statement that calls them (inlining). A SET clause would
-- prevent that. So they are parsed here, once: which functions they call does not depend on the caller's search_path.
-- Arrays are read as seldom as possible: each access unpacks them.

-- All that an entry says.
CREATE FUNCTION pointsd.entry_print(e pointsd.entries) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN uuid_hash_extended(e.user_id, hashint8extended(1, e.seq # hashint8extended(2, e.amount
        # hashint8extended(3, e.balance_before # hashint8extended(4, e.balance_after #
        timestamp_hash_extended(e.at AT TIME ZONE interval '0',
        timestamp_hash_extended(e.recorded_at AT TIME ZONE interval '0',
        hashtextextended(e.type, hashtextextended(e.source_type,
        hashint8extended(13, e.drawing_rule)
        # hash_array_extended(e.allocated_batches, 14) # hash_array_extended(e.allocated_points, 15) -- of none it is the same
        # coalesce(uuid_hash_extended(e.key, 1), 2) # coalesce(hashtextextended(e.source_id, 3), 4)
        # coalesce(hashint8extended(e.batch, 5), 6) # coalesce(hash_numeric_extended(e.duration, 7), 8)
        # coalesce(hashint8extended(e.run, 9), 10) # coalesce(jsonb_hash_extended(e.correction, 11), 12)
        # coalesce(hashint8extended(e.refers_to, 16), 17) # coalesce(jsonb_hash_extended(e.asked, 18), 19)
        # coalesce(hashint8extended(e.paid, 20), 0) # coalesce(hashtextextended(e.currency, 21), 0)
        # coalesce(hash_array_extended(e.allocated_paid, 22), 0) # coalesce(hashtextextended(e.description, 23), 0))))))))));

-- What never changes about a batch. What remains and what has expired does change: sums prove it.
CREATE FUNCTION pointsd.batch_print(b pointsd.batches) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN uuid_hash_extended(b.user_id, hashint8extended(b.batch, hashint8extended(b.amount, hashtextextended(b.source,
        timestamp_hash_extended(b.opened_at AT TIME ZONE interval '0',
        timestamp_hash_extended(b.expires_at AT TIME ZONE interval '0',
        1 # coalesce(hashint8extended(b.paid, 2), 0) # coalesce(hashtextextended(b.currency, 3), 0)))))));

-- The group of accounts whose sums are compared together with their checkpoints. There are 4096 groups: their sums stay
-- in a processor's cache. With a sum for each of a million accounts, most of the time went into waiting for memory.
CREATE FUNCTION pointsd.digest_group(user_id uuid) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN uuid_hash($1) & 4095;

-- What an entry and the batch that it opened both say. Cut to 61 bits, as the next one is, so that a sum of the parts of
-- an entry cannot overflow.
CREATE FUNCTION pointsd.opening_print(batch integer, amount bigint, source text, opened_at timestamptz, paid bigint, currency text)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashint8extended($1, hashint8extended(1, $2) # hashtextextended($3, 2)
                                # timestamp_hash_extended($4 AT TIME ZONE interval '0', 3)
                                # coalesce(hashint8extended($5, 4), 0) # coalesce(hashtextextended($6, 5), 0)) >> 3;

-- A place in the chain of an account's entries: a number, and the balance there.
CREATE FUNCTION pointsd.chain_print(seq bigint, balance bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashint8extended($1, $2) >> 3;

-- The factor by which a batch's points are multiplied: about 20 bits, so that 10^12 points do not overflow.
CREATE FUNCTION pointsd.batch_weight(user_id uuid, batch integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint4extended($2, uuid_hash_extended($1, 1)) & 1048575) + 1;

-- The factor by which a batch's expired points are multiplied, made of other bits of the same hash.
CREATE FUNCTION pointsd.expired_weight(user_id uuid, batch integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint4extended($2, uuid_hash_extended($1, 1)) >> 20 & 1048575) + 1;

-- The factor by which the money of a batch is multiplied: few bits, because a price may be 10^15.
CREATE FUNCTION pointsd.paid_weight(user_id uuid, batch integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint4extended($2, uuid_hash_extended($1, 1)) >> 40 & 2047) + 1;

-- The money of several allocations, weighted. Null where it comes to more than the highest price: the checks look at it then.
CREATE FUNCTION pointsd.paid_proof(account uuid, batches integer[], money bigint[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN count(b) = count(*) AND coalesce(sum(abs(m::numeric)), 0) <= 1000000000000000
                THEN coalesce(sum(pointsd.paid_weight($1, b)::numeric * m), 0)::bigint END
    FROM unnest($2, $3) AS t (b, m);
END;

-- Several allocations, weighted. Null where they are not sound: each batch at most once, all parts positive, `fewest` to
-- `most` points in total.
CREATE FUNCTION pointsd.parts_proof(account uuid, batches integer[], parts bigint[], fewest bigint, most bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_over bigint := most;
    weighted bigint := 0;
    many boolean := cardinality(parts) > 50; -- from here on a query is quicker than a comparison with all earlier ones
BEGIN
    IF array_lower(batches, 1) <> 1 OR array_lower(parts, 1) <> 1 THEN RETURN NULL; END IF;
    IF many AND (SELECT count(DISTINCT b) <> count(*) FROM unnest(batches) AS b) THEN RETURN NULL; END IF;
    FOR nth IN 1 .. cardinality(parts) LOOP
        IF parts[nth] > 0 AND parts[nth] <= left_over AND (many OR batches[nth] <> ALL (batches[:nth - 1])) THEN
            left_over := left_over - parts[nth];
            weighted := weighted + pointsd.batch_weight(account, batches[nth]) * parts[nth];
        ELSE
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN CASE WHEN left_over <= most - fewest THEN weighted END;
END
$$;

-- The allocations of an adjust entry, which may give points back to a batch. Null where they are not sound: each batch at
-- most once, no part of 0, `points` in total. The sums are made before any bound is known, so they are numeric.
CREATE FUNCTION pointsd.adjust_proof(account uuid, batches integer[], parts bigint[], points numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN coalesce(sum(p), 0) = $4 AND count(DISTINCT b) = count(*) AND count(p) = count(*)
                     AND coalesce(bool_and(p <> 0), true) AND coalesce(sum(abs(p::numeric)), 0) <= 1000000000000
                THEN coalesce(sum(pointsd.batch_weight($1, b)::numeric * p), 0)::bigint END
    FROM unnest($2, $3) AS t (b, p);
END;

-- What the first entry of a refund says of the whole: its points and the number of its entries. Each of its entries takes its own
-- share off again, so a refund adds up to nothing. 0 for the other entries; null where it is not sound.
CREATE FUNCTION pointsd.asked_proof(asked jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN $1 IS NULL THEN 0
                WHEN $1 ->> 'posted' ~ '^[0-9]{1,12}$|^1000000000000$' AND $1 ->> 'entries' ~ '^[0-9]{1,9}$'
                    THEN ($1 ->> 'posted')::bigint * 1009 + ($1 ->> 'entries')::bigint * 1000121 END;

-- An entry's part of the sum that proves an account: the chain of balances; the points, weighted by type; the batch that it
-- opened; what was taken from each batch; what expired in it. A row that is not sound in itself spoils
-- the sum by a fixed number. Nothing is multiplied or added before its bounds are known: a value beyond them must not be an
-- error.
--
-- A consume in arrears may draw points that were restored before it. So it may draw more than its balance_before; the sum
-- over the batches shows whether it drew too much.
CREATE FUNCTION pointsd.entry_proof(e pointsd.entries)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        CASE WHEN e.seq > 0 AND e.amount <= 1000000000000 AND e.balance_before <= 9000000000000000000
                  AND e.balance_before >= -9000000000000000000 AND cardinality(e.allocated_batches) = cardinality(e.allocated_points)
                  -- Five minutes ahead of its recording at most; see the rule entry_time.
                  AND e.at AT TIME ZONE interval '0' <= e.recorded_at AT TIME ZONE interval '5 minutes'
                  AND CASE WHEN e.paid IS NULL THEN e.currency IS NULL
                           ELSE e.paid >= 0 AND e.currency IS NOT NULL AND e.type IN ('recharge', 'refund', 'void', 'opening') END THEN
            pointsd.chain_print(e.seq, e.balance_after) - pointsd.chain_print(e.seq - 1, e.balance_before)
            + CASE WHEN e.allocated_paid IS NULL THEN 0
                   ELSE CASE e.type WHEN 'restore' THEN -1 ELSE 1 END
                        * pointsd.paid_proof(e.user_id, e.allocated_batches, e.allocated_paid) END
            + CASE e.type
                WHEN 'consume' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before - e.amount AND e.batch IS NULL
                              AND e.correction IS NULL AND e.key IS NOT NULL AND e.refers_to IS NULL AND e.asked IS NULL THEN
                        e.amount * 1000003 + CASE cardinality(e.allocated_points)
                            WHEN 0 THEN CASE WHEN e.balance_before <= 0 THEN 0 END
                            WHEN 1 THEN CASE WHEN e.allocated_points[1] BETWEEN greatest(1, least(e.amount, e.balance_before)) AND e.amount
                                             THEN pointsd.batch_weight(e.user_id, e.allocated_batches[1]) * e.allocated_points[1] END
                            -- Written out, because the function below takes ten times as long and every fourth consume meets
                            -- the end of a batch.
                            WHEN 2 THEN CASE WHEN e.allocated_points[1] BETWEEN 1 AND e.amount - 1
                                             THEN CASE WHEN e.allocated_points[2]
                                                            BETWEEN greatest(1, least(e.amount, e.balance_before) - e.allocated_points[1])
                                                                AND e.amount - e.allocated_points[1]
                                                            AND e.allocated_batches[1] <> e.allocated_batches[2]
                                                       THEN pointsd.batch_weight(e.user_id, e.allocated_batches[1]) * e.allocated_points[1]
                                                            + pointsd.batch_weight(e.user_id, e.allocated_batches[2]) * e.allocated_points[2] END END
                            ELSE pointsd.parts_proof(e.user_id, e.allocated_batches, e.allocated_points,
                                                     greatest(0, least(e.amount, e.balance_before)), e.amount) END
                    END
                WHEN 'recharge' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before + e.amount AND e.batch > 0
                              AND e.correction IS NULL AND e.key IS NOT NULL AND e.refers_to IS NULL AND e.asked IS NULL THEN
                        e.amount + pointsd.opening_print(e.batch, e.amount, e.source_type, e.at, e.paid, e.currency) + CASE cardinality(e.allocated_points)
                            WHEN 0 THEN CASE WHEN e.balance_before >= 0 THEN 0 END
                            WHEN 1 THEN CASE WHEN e.balance_before < 0 AND e.allocated_points[1] = least(e.amount, -e.balance_before)
                                                  AND e.allocated_batches[1] = e.batch
                                             THEN pointsd.batch_weight(e.user_id, e.batch) * least(e.amount, -e.balance_before) END END
                    END
                WHEN 'expire' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before - e.amount AND e.batch IS NULL
                              AND e.correction IS NULL AND e.key IS NULL AND e.refers_to IS NULL AND e.asked IS NULL
                              AND e.allocated_points = ARRAY[e.amount] THEN
                        e.amount * 1000033 + (pointsd.batch_weight(e.user_id, e.allocated_batches[1])
                                              + pointsd.expired_weight(e.user_id, e.allocated_batches[1])) * e.amount
                    END
                WHEN 'refund' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before + e.amount AND e.batch > 0
                              AND e.correction IS NULL AND (e.key IS NULL) = (e.asked IS NULL)
                              AND e.refers_to > 0 AND e.refers_to < e.seq THEN
                        e.amount * 1000039 + pointsd.opening_print(e.batch, e.amount, e.source_type, e.at, e.paid, e.currency)
                        + pointsd.asked_proof(e.asked) - e.amount * 1009 - 1000121
                        + CASE cardinality(e.allocated_points)
                            WHEN 0 THEN CASE WHEN e.balance_before >= 0 THEN 0 END
                            WHEN 1 THEN CASE WHEN e.balance_before < 0 AND e.allocated_points[1] = least(e.amount, -e.balance_before)
                                                  AND e.allocated_batches[1] = e.batch
                                             THEN pointsd.batch_weight(e.user_id, e.batch) * least(e.amount, -e.balance_before) END END
                    END
                WHEN 'void' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before - e.amount AND e.batch IS NULL
                              AND e.correction IS NULL AND e.key IS NOT NULL
                              AND e.asked ->> 'posted' = e.amount::text AND e.asked ->> 'entries' = '1'
                              AND e.refers_to > 0 AND e.refers_to < e.seq THEN
                        e.amount * 1000081 + CASE cardinality(e.allocated_points)
                            WHEN 0 THEN CASE WHEN e.balance_before <= 0 THEN 0 END
                            ELSE pointsd.parts_proof(e.user_id, e.allocated_batches, e.allocated_points,
                                                     greatest(0, least(e.amount, e.balance_before)),
                                                     greatest(0, least(e.amount, e.balance_before))) END
                    END
                WHEN 'restore' THEN
                    CASE WHEN e.amount > 0 AND e.balance_after = e.balance_before + e.amount AND e.batch IS NULL
                              AND e.correction IS NULL AND e.key IS NULL AND e.refers_to IS NULL AND e.asked IS NULL
                              AND e.allocated_points = ARRAY[e.amount] THEN
                        e.amount * -1000033 - (pointsd.batch_weight(e.user_id, e.allocated_batches[1])
                                               + pointsd.expired_weight(e.user_id, e.allocated_batches[1])) * e.amount
                    END
                WHEN 'opening' THEN
                    CASE WHEN e.amount > 0 AND e.correction IS NULL AND e.key IS NOT NULL AND e.refers_to IS NULL AND e.asked IS NULL
                              AND cardinality(e.allocated_points) = 0 THEN
                        CASE WHEN e.batch > 0 AND e.balance_before >= 0 AND e.balance_after = e.balance_before + e.amount
                             THEN e.amount * 1000099
                                  + pointsd.opening_print(e.batch, e.amount, e.source_type, e.at, e.paid, e.currency)
                             WHEN e.batch IS NULL AND e.paid IS NULL AND e.balance_before = 0 AND e.balance_after = -e.amount
                             THEN e.amount * -1000099 END
                    END
                WHEN 'adjust' THEN
                    CASE WHEN e.amount >= 0 AND e.batch IS NULL AND e.correction IS NOT NULL AND e.key IS NULL
                              AND e.refers_to IS NULL AND e.asked IS NULL THEN
                        pointsd.adjust_proof(e.user_id, e.allocated_batches, e.allocated_points,
                                             greatest(0, e.balance_before)::numeric - greatest(0, e.balance_after))
                        + CASE e.balance_after WHEN e.balance_before + e.amount THEN e.amount * 1000037
                                                 WHEN e.balance_before - e.amount THEN e.amount * -1000037 END
                    END
              END
        END, 4503599627370517);

-- The account's part of that sum.
CREATE FUNCTION pointsd.account_proof(a pointsd.accounts) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a.last_seq >= 0 AND a.last_batch >= 0 AND a.total_recharged >= 0 AND a.total_consumed >= 0
                     AND a.total_expired >= 0 AND a.total_refunded >= 0 AND a.total_voided >= 0
                     AND a.balance = a.total_opening::numeric + a.total_recharged - a.total_consumed - a.total_expired
                                       + a.total_refunded - a.total_voided + a.total_adjusted THEN
        pointsd.chain_print(a.last_seq, a.balance)::numeric + a.total_recharged + 1000003::numeric * a.total_consumed
        + 1000033::numeric * a.total_expired + 1000039::numeric * a.total_refunded + 1000081::numeric * a.total_voided
        + 1000037::numeric * a.total_adjusted + 1000099::numeric * a.total_opening END;

-- A batch's part: what was taken from it, what of that expired, and what it released of the price. A batch that is not sound in itself spoils the sum.
CREATE FUNCTION pointsd.batch_proof(b pointsd.batches) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        CASE WHEN b.batch > 0 AND b.amount > 0 AND b.amount <= 1000000000000 AND b.remaining >= 0
                  AND b.remaining <= b.amount AND b.expired >= 0 AND b.expired <= b.amount AND b.open = (b.remaining > 0)
                  AND b.expires_at > b.opened_at AND isfinite(b.expires_at) AND isfinite(b.opened_at)
             THEN pointsd.batch_weight(b.user_id, b.batch) * (b.amount - b.remaining)
                  + CASE WHEN b.expired = 0 THEN 0 ELSE pointsd.expired_weight(b.user_id, b.batch) * b.expired END
                  + CASE WHEN b.paid IS NULL THEN CASE WHEN b.currency IS NULL THEN 0 END
                         WHEN b.paid BETWEEN 0 AND 1000000000000000 AND b.currency IS NOT NULL
                         THEN pointsd.paid_weight(b.user_id, b.batch)
                              * pointsd.price_part(b.paid, 0, b.amount - b.remaining, b.amount)::bigint END
        END, 4503599627370449);

-- The account's part as it was at the checkpoint. The sum of later entries begins there.
CREATE FUNCTION pointsd.checkpoint_proof(c pointsd.checkpoints) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pointsd.chain_print(c.seq, c.balance)::numeric + c.total_recharged + 1000003::numeric * c.total_consumed
        + 1000033::numeric * c.total_expired + 1000039::numeric * c.total_refunded + 1000081::numeric * c.total_voided
        + 1000037::numeric * c.total_adjusted + 1000099::numeric * c.total_opening;

-- Whether a hold is sound in itself, and agrees with the consume under its key: `consume` is all null where there is none.
CREATE FUNCTION pointsd.hold_is_sound(h pointsd.holds, consume pointsd.entries) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(h.points > 0 AND h.until > h.at AND isfinite(h.at) AND isfinite(h.until)
                    AND CASE h.state WHEN 'open' THEN h.seq IS NULL AND consume.seq IS NULL
                                     WHEN 'released' THEN h.seq IS NULL
                                     WHEN 'captured' THEN h.seq = consume.seq AND consume.at <= h.at END, false);

-- Whether the entries that take back an entry are sound: all of one type, of the right entry, for its order or task, and no more
-- points than it had. A recharge also loses what expired of its batch. Voids return the share of its price, in its currency.
CREATE FUNCTION pointsd.is_taken_back(e pointsd.entries, type text, source_id text, points numeric, expired bigint, paid numeric,
                                      currency text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE $2 WHEN 'refund' THEN e.type = 'consume' AND $4 <= e.amount
                            WHEN 'void' THEN e.type = 'recharge' AND $4 + $5 <= e.amount
                                AND $7 IS NOT DISTINCT FROM e.currency
                                AND $6 IS NOT DISTINCT FROM pointsd.price_part(e.paid, 0, $4, e.amount) END
                    AND $3 IS NOT DISTINCT FROM e.source_id, false);

-- Whether a refund entry gives back one part of its consume, in reverse drawing order. See the rule refund_batch.
-- It has settings of its own, because a pass over all accounts has sorts, index scans and nested loops switched off: a row would be read
-- by a scan of the table, and the sort would seem so dear that the query is compiled for each refund.
CREATE FUNCTION pointsd.refund_is_sound(r pointsd.entries) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET jit = off SET enable_sort = on SET enable_indexscan = on SET enable_nestloop = on AS $$
BEGIN
    RETURN EXISTS (
        SELECT
        FROM pointsd.entries AS c
        CROSS JOIN LATERAL (SELECT coalesce(sum(p), 0) AS covered FROM unnest(c.allocated_points) AS p) AS s
        CROSS JOIN LATERAL (
            SELECT 'refund' AS source, '-infinity'::timestamptz AS expires_at, c.amount - s.covered AS points,
                   c.amount - s.covered AS until, NULL::bigint AS paid, NULL::text AS currency
            UNION ALL
            SELECT b.source, b.expires_at, t.points, c.amount - s.covered + t.until, t.paid, b.currency
            FROM (SELECT batch, points, paid, sum(points) OVER (ORDER BY nth DESC) AS until
                  FROM unnest(c.allocated_batches, c.allocated_points, c.allocated_paid)
                      WITH ORDINALITY AS a (batch, points, paid, nth)) AS t
            JOIN pointsd.batches AS b ON b.bucket = r.bucket AND b.user_id = r.user_id AND b.batch = t.batch
        ) AS part
        JOIN pointsd.batches AS own ON own.bucket = r.bucket AND own.user_id = r.user_id AND own.batch = r.batch
        CROSS JOIN LATERAL (
            SELECT sum(e.amount) AS until FROM pointsd.entries AS e
            WHERE e.bucket = r.bucket AND e.user_id = r.user_id AND e.refers_to = r.refers_to AND e.seq <= r.seq
        ) AS refunded
        WHERE c.bucket = r.bucket AND c.user_id = r.user_id AND c.seq = r.refers_to AND part.source = r.source_type
          AND refunded.until <= part.until AND refunded.until - r.amount >= part.until - part.points
          AND own.expires_at >= part.expires_at AND r.currency IS NOT DISTINCT FROM part.currency
          -- What the part had released comes back, in parts that add up to it.
          AND r.paid IS NOT DISTINCT FROM pointsd.price_part(
              part.paid, refunded.until - r.amount - (part.until - part.points), r.amount, part.points));
END
$$;

-- Whether a restore stands directly before its consume, or before another restore of it, and the consume draws its points. Its settings are
-- those of refund_is_sound.
CREATE FUNCTION pointsd.restore_is_sound(r pointsd.entries) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET jit = off SET enable_sort = on SET enable_indexscan = on SET enable_nestloop = on AS $$
BEGIN
    RETURN EXISTS (SELECT
                   FROM (SELECT * FROM pointsd.entries AS e
                         WHERE e.bucket = r.bucket AND e.user_id = r.user_id AND e.seq > r.seq
                         ORDER BY e.seq LIMIT 1) AS n
                   WHERE n.at = r.at AND n.type IN ('restore', 'consume'))
       AND EXISTS (SELECT
                   FROM (SELECT * FROM pointsd.entries AS n
                         WHERE n.bucket = r.bucket AND n.user_id = r.user_id AND n.seq > r.seq AND n.type <> 'restore'
                         ORDER BY n.seq LIMIT 1) AS c,
                        unnest(c.allocated_batches, c.allocated_points) AS t (batch, points)
                   WHERE t.batch = r.allocated_batches[1] AND t.points >= r.amount);
END
$$;

-- Whether an entry took points from a batch in time: a consume or a void before the batch's end, an expiry after it, and then
-- all points that were left. A restore gives back only what a consume from before the end may draw.
CREATE FUNCTION pointsd.drew_in_time(type text, at timestamptz, source_type text, b pointsd.batches) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(CASE $1 WHEN 'consume' THEN b.expires_at > $2
                            WHEN 'void' THEN b.expires_at > $2
                            WHEN 'restore' THEN b.expires_at > $2 AND b.source = $3
                            WHEN 'expire' THEN b.expires_at <= $2 AND b.source = $3 AND b.remaining = 0
                            ELSE true END, false);

-- A sum, cut to 64 bits. Only rows that were changed by hand come to more: a report must show them, not fail.
CREATE FUNCTION pointsd.clamp_bigint(points numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(greatest($1, -9223372036854775808), 9223372036854775807)::bigint;

-- A sum of fingerprints, folded into 64 bits: what remains of it modulo 2^64. Folded sums still add up, also modulo 2^64.
CREATE FUNCTION pointsd.fold_print(sum numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (mod(mod($1, 18446744073709551616) + 27670116110564327424, 18446744073709551616) - 9223372036854775808)::bigint;

-- The findings of proofs. A finding stands until a later proof no longer finds it.
CREATE TABLE pointsd.findings (
    finding    bigint      GENERATED ALWAYS AS IDENTITY,
    rule       text        NOT NULL, -- the name of the check in sql/checks
    user_id    uuid,                 -- null: the ledger as a whole
    batch      integer,              -- null: not about a batch
    seq        bigint,               -- null: not about an entry
    bucket     smallint    NOT NULL DEFAULT 0, -- the account's; 0 for the ledger as a whole
    expected   text        NOT NULL,
    found      text        NOT NULL,
    points     bigint,               -- found less expected; null: not about a number of points
    since      timestamptz NOT NULL, -- when it was first found
    since_run  bigint      NOT NULL, -- by which run
    seen_run   bigint      NOT NULL, -- the last run that found it
    resolved_at  timestamptz,        -- when a run no longer found it; null: it stands
    resolved_run bigint,
    CONSTRAINT findings_pkey PRIMARY KEY (finding),
    CONSTRAINT findings_resolved_by_a_run CHECK ((resolved_at IS NULL) = (resolved_run IS NULL))
);
-- A finding stands once, however many proofs see it.
CREATE UNIQUE INDEX findings_stand_once
    ON pointsd.findings (bucket, rule, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), coalesce(batch, 0),
                         coalesce(seq, 0))
    WHERE resolved_at IS NULL;
-- Finds what stands against an account.
CREATE INDEX findings_standing_by_user ON pointsd.findings (bucket, user_id) WHERE resolved_at IS NULL;

-- One row: how far the proofs have come.
CREATE TABLE pointsd.proof_state (
    one          boolean     NOT NULL DEFAULT true,
    proved_until timestamptz,          -- entries recorded until then are proved; null: there was no proof yet
    full_until   timestamptz,          -- the same of the last full proof
    CONSTRAINT proof_state_pkey PRIMARY KEY (one),
    CONSTRAINT proof_state_is_one_row CHECK (one)
);
INSERT INTO pointsd.proof_state DEFAULT VALUES;
