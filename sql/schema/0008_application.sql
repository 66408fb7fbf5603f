-- What applications call in SQL, in transactions of their own: reads of an account, and holds.
--
-- The functions that read or write tables run with the rights of their owner, because a hold locks the account's row, and an
-- application's role must not be able to change that row itself. No role may call them until the owner grants it.

-- The sixteen bytes that stand for a user and an idempotency key: four of the user, twelve of a SHA-256. The library computes the same.
CREATE FUNCTION pointsd.key_id(user_id uuid, key text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(substring(uuid_send(key_id.user_id) FOR 4)
                  || substring(sha256(uuid_send(key_id.user_id) || convert_to(key_id.key, 'UTF8')) FOR 12), 'hex')::uuid
$$;

-- The key of a consume, and of the hold that it captures, without a key of the caller's. A backslash before each colon of the first
-- field keeps `a` with `b:c` and `a:b` with `c` apart.
CREATE FUNCTION pointsd.work_key(source_type text, source_id text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'consume:' || replace(replace(work_key.source_type, '\', '\\'), ':', '\:') || ':' || work_key.source_id
$$;

-- An account at an instant: its books as they are now, and what of it is available then. Always one row, of zeros for an account
-- that was never opened.
--
-- Available are the points that are alive, less those that standing holds reserve; nothing in arrears. This is the definition for
-- everything but the state machine, which a test holds to it.
CREATE FUNCTION pointsd.account(
    user_id uuid, at timestamptz DEFAULT now(),
    OUT balance bigint, OUT available bigint, OUT held bigint, OUT arrears bigint,
    OUT total_recharged bigint, OUT total_consumed bigint, OUT total_expired bigint, OUT total_refunded bigint,
    OUT total_voided bigint, OUT total_adjusted bigint, OUT total_opening bigint,
    OUT next_expiry timestamptz, -- when the next points expire …
    OUT next_expiry_points bigint -- … and how many
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    SELECT coalesce(a.balance, 0),
           CASE WHEN a.balance >= 0 THEN greatest(0, alive.points - standing.points) ELSE 0 END,
           standing.points,
           greatest(0, -coalesce(a.balance, 0)),
           coalesce(a.total_recharged, 0), coalesce(a.total_consumed, 0), coalesce(a.total_expired, 0),
           coalesce(a.total_refunded, 0), coalesce(a.total_voided, 0), coalesce(a.total_adjusted, 0),
           coalesce(a.total_opening, 0), alive.next, alive.next_points
    INTO balance, available, held, arrears, total_recharged, total_consumed, total_expired, total_refunded, total_voided,
         total_adjusted, total_opening, next_expiry, next_expiry_points
    FROM (SELECT) AS one
    LEFT JOIN pointsd.accounts AS a ON a.bucket = pointsd.bucket_of(account.user_id) AND a.user_id = account.user_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(b.remaining), 0)::bigint AS points, min(b.expires_at) AS next,
               (sum(b.remaining) FILTER (WHERE b.soonest = 1))::bigint AS next_points
        FROM (SELECT b.remaining, b.expires_at, rank() OVER (ORDER BY b.expires_at) AS soonest
              FROM pointsd.batches AS b
              WHERE b.bucket = pointsd.bucket_of(account.user_id) AND b.user_id = account.user_id AND b.open AND b.expires_at > account.at) AS b
    ) AS alive
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(h.points), 0)::bigint AS points
        FROM pointsd.holds AS h
        WHERE a.open_holds > 0 AND h.bucket = pointsd.bucket_of(account.user_id) AND h.user_id = account.user_id AND h.state = 'open' AND h.until > account.at
    ) AS standing;
END
$$;

-- Whether an account covers work that will cost so many points.
CREATE FUNCTION pointsd.check(user_id uuid, points bigint, at timestamptz DEFAULT now()) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.balance >= 0 AND a.available >= "check".points FROM pointsd.account("check".user_id, "check".at) AS a
$$;

-- Every account as it is now.
CREATE VIEW pointsd.balances AS
SELECT a.user_id, now.*
FROM pointsd.accounts AS a CROSS JOIN LATERAL pointsd.account(a.user_id, now()) AS now;

-- An account at a past instant, on one of two clocks. Exactly one of them is given:
--
-- - as_of: what the books said then, from the entries that were recorded by then. It never changes once the instant is past.
-- - effective_at: what had happened by then, as known now, from the entries with an `at` up to then. Points that were due by
--   then count as expired.
--
-- With as_of, the books end at the last entry that was recorded by then. Its number is searched from both ends of the history in
-- steps that double, and only the shorter side is summed up. It is the number that counts, not the time of each entry, because a
-- clock may be set back. Only where it was set back within an account, the search from the beginning may stop too early.
-- With effective_at, the entries after the border are read, because what happened before it may have been recorded at any time since.
-- What happened after it was recorded after it, less five minutes: no posting is dated further ahead.
CREATE FUNCTION pointsd.account_then(
    user_id uuid, as_of timestamptz DEFAULT NULL, effective_at timestamptz DEFAULT NULL,
    OUT balance bigint, OUT arrears bigint, OUT total_recharged bigint, OUT total_consumed bigint, OUT total_expired bigint,
    OUT total_refunded bigint, OUT total_voided bigint, OUT total_adjusted bigint, OUT total_opening bigint
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_bucket smallint := pointsd.bucket_of(account_then.user_id);
    border timestamptz := coalesce(account_then.as_of, account_then.effective_at - interval '5 minutes');
    a pointsd.accounts;
    length bigint := 1; -- entries that were searched at each end
    last bigint;        -- the last entry recorded by the border
    after boolean;      -- whether the entries after it are summed up, or those up to it:
    since bigint;       -- from the number after this one …
    until bigint;       -- … to this one
    part record;
    due bigint := 0;    -- points that count as expired by then, though no entry says so yet
    later bigint := 0;  -- points that entries say expired, though not by then
BEGIN
    IF num_nonnulls(account_then.as_of, account_then.effective_at) <> 1 THEN
        RAISE EXCEPTION 'give either as_of or effective_at' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT * INTO a FROM pointsd.accounts AS n WHERE n.bucket = own_bucket AND n.user_id = account_then.user_id;
    LOOP
        SELECT max(e.seq) INTO last FROM pointsd.entries AS e
        WHERE e.bucket = own_bucket AND e.user_id = account_then.user_id AND e.seq > a.last_seq - length AND e.recorded_at <= border;
        after := true;
        EXIT WHEN last IS NOT NULL OR length >= coalesce(a.last_seq, 0);
        -- All later entries at the places of a doubling were recorded after it: then the border lies at the beginning.
        IF account_then.as_of IS NOT NULL AND NOT EXISTS (
            SELECT FROM generate_series(0, 62) AS step
            JOIN pointsd.entries AS e ON e.bucket = own_bucket AND e.user_id = account_then.user_id AND e.seq = length + (1::bigint << step)
            WHERE e.recorded_at <= border)
        THEN
            SELECT max(e.seq) INTO last FROM pointsd.entries AS e
            WHERE e.bucket = own_bucket AND e.user_id = account_then.user_id AND e.seq <= length + 1 AND e.recorded_at <= border;
            after := false;
            EXIT;
        END IF;
        length := 2 * length;
    END LOOP;
    last := coalesce(last, 0);
    since := CASE WHEN after THEN last ELSE 0 END;
    until := CASE WHEN after THEN a.last_seq ELSE last END;
    -- What lies after the border is taken off the totals; what lies before it is counted alone.
    SELECT coalesce(sum(e.amount) FILTER (WHERE e.type = 'recharge'), 0) AS recharged,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'consume'), 0) AS consumed,
           coalesce(sum(CASE e.type WHEN 'expire' THEN e.amount WHEN 'restore' THEN -e.amount END), 0) AS expired,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'refund'), 0) AS refunded,
           coalesce(sum(e.amount) FILTER (WHERE e.type = 'void'), 0) AS voided,
           coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'adjust'), 0) AS adjusted,
           coalesce(sum(e.balance_after - e.balance_before) FILTER (WHERE e.type = 'opening'), 0) AS opened
    INTO part
    FROM pointsd.entries AS e
    WHERE e.bucket = own_bucket AND e.user_id = account_then.user_id AND e.seq > since AND e.seq <= until
      AND (account_then.as_of IS NOT NULL OR e.at > account_then.effective_at);
    IF account_then.as_of IS NULL THEN
        SELECT coalesce(sum(b.remaining), 0) INTO due
        FROM pointsd.batches AS b
        WHERE b.bucket = own_bucket AND b.user_id = account_then.user_id AND b.open AND b.expires_at <= account_then.effective_at;
        SELECT coalesce(sum(b.expired), 0) INTO later
        FROM (SELECT DISTINCT e.allocated_batches[1] AS batch
              FROM pointsd.entries AS e
              WHERE e.bucket = own_bucket AND e.user_id = account_then.user_id AND e.seq > last AND e.type = 'expire') AS x
        JOIN pointsd.batches AS b ON b.bucket = own_bucket AND b.user_id = account_then.user_id AND b.batch = x.batch
        WHERE b.expires_at > account_then.effective_at;
        part.expired := later - due;
    END IF;
    IF after THEN
        total_recharged := coalesce(a.total_recharged, 0) - part.recharged;
        total_consumed := coalesce(a.total_consumed, 0) - part.consumed;
        total_expired := coalesce(a.total_expired, 0) - part.expired;
        total_refunded := coalesce(a.total_refunded, 0) - part.refunded;
        total_voided := coalesce(a.total_voided, 0) - part.voided;
        total_adjusted := coalesce(a.total_adjusted, 0) - part.adjusted;
        total_opening := coalesce(a.total_opening, 0) - part.opened;
    ELSE
        total_recharged := part.recharged;
        total_consumed := part.consumed;
        total_expired := part.expired;
        total_refunded := part.refunded;
        total_voided := part.voided;
        total_adjusted := part.adjusted;
        total_opening := part.opened;
    END IF;
    balance := total_opening + total_recharged - total_consumed - total_expired + total_refunded - total_voided + total_adjusted;
    arrears := greatest(0, -balance);
END
$$;

-- Reserves points for work that is about to begin, in the caller's transaction, which keeps the account locked to its end. Without a
-- key the hold is found by source_type and source_id.
--
-- status is `held`, `replayed` or `rejected`; then code and message say why. The rules are those of the state machine.
CREATE FUNCTION pointsd.hold(
    user_id uuid, points bigint, source_type text, source_id text, until timestamptz,
    key text DEFAULT NULL, at timestamptz DEFAULT now(),
    OUT status text, OUT code text, OUT message text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own_bucket smallint := pointsd.bucket_of(hold.user_id);
    key_id uuid := pointsd.key_id(hold.user_id, coalesce(hold.key, pointsd.work_key(hold.source_type, hold.source_id)));
    holder record;
    standing pointsd.holds;
    account record;
BEGIN
    status := 'rejected';
    CASE
        WHEN hold.user_id IS NULL OR hold.points IS NULL OR hold.at IS NULL OR hold.until IS NULL
            OR coalesce(length(hold.source_type), 0) NOT BETWEEN 1 AND 64
            OR coalesce(length(hold.source_id), 0) NOT BETWEEN 1 AND 255 OR length(hold.key) NOT BETWEEN 1 AND 255
            OR hold.at NOT BETWEEN '1970-01-01Z' AND '9999-12-31 23:59:59.999999Z'
            OR hold.until NOT BETWEEN '1970-01-01Z' AND '9999-12-31 23:59:59.999999Z'
        THEN
            code := 'malformed';
            message := 'a hold needs user_id, points, source_type (1 to 64 characters), source_id (1 to 255) and until';
            RETURN;
        WHEN hold.points NOT BETWEEN 1 AND 1000000000000 THEN
            code := 'invalid_points';
            message := format('%s points: a hold reserves 1 to 1000000000000', hold.points);
            RETURN;
        WHEN hold.at > clock_timestamp() + interval '5 minutes' THEN
            code := 'from_the_future';
            message := format('%s is in the future: the clock shows %s; correct the date', hold.at, clock_timestamp());
            RETURN;
        ELSE
    END CASE;
    -- The lock first: what follows is read as the last holder of the lock left it.
    PERFORM pointsd.keep_bucket(own_bucket);
    PERFORM FROM pointsd.accounts AS a WHERE a.bucket = own_bucket AND a.user_id = hold.user_id FOR NO KEY UPDATE;
    -- Without an account nothing is locked, and there is nothing to reserve. One that opens meanwhile counts from the next call on.
    IF NOT FOUND AND hold.until > hold.at THEN
        code := 'insufficient';
        message := format('%s points cannot be held: the account has none', hold.points);
        RETURN;
    END IF;
    SELECT e.seq, e.type INTO holder FROM pointsd.entries AS e WHERE e.bucket = own_bucket AND e.key = key_id;
    IF FOUND THEN
        code := 'key_conflict';
        message := format('the key belongs to entry %s (%s); give this hold another key', holder.seq, holder.type);
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pointsd.adopted_keys AS k WHERE k.bucket = own_bucket AND k.key = key_id) THEN
        code := 'key_conflict';
        message := 'another service posted the key before this ledger; give this hold another key';
        RETURN;
    END IF;
    SELECT * INTO standing FROM pointsd.holds AS h WHERE h.bucket = own_bucket AND h.key = key_id;
    IF FOUND AND (standing.state <> 'open' OR standing.points <> hold.points
                  OR (standing.source_type, standing.source_id) <> (hold.source_type, hold.source_id)) THEN
        code := 'key_conflict';
        message := format('the key belongs to a hold of %s points (%s); give this hold another key', standing.points,
                          standing.state);
        RETURN;
    END IF;
    IF hold.until <= hold.at THEN
        code := 'already_expired';
        message := format('the end %s is not after %s', hold.until, hold.at);
        RETURN;
    END IF;
    IF standing.until > hold.at THEN
        -- Asked again, it may end later, never earlier.
        UPDATE pointsd.holds AS h SET until = hold.until WHERE h.bucket = own_bucket AND h.key = key_id AND h.until < hold.until;
        UPDATE pointsd.accounts AS a SET open_holds = a.open_holds WHERE a.bucket = own_bucket AND a.user_id = hold.user_id;
        status := 'replayed';
        RETURN;
    END IF;
    SELECT a.balance, a.available INTO account FROM pointsd.account(hold.user_id, hold.at) AS a;
    IF account.balance < 0 OR account.available < hold.points THEN
        code := 'insufficient';
        message := format('%s points cannot be held: %s are available, the balance is %s', hold.points, account.available,
                          account.balance);
        RETURN;
    END IF;
    -- A hold that was over by time is asked for anew.
    INSERT INTO pointsd.holds AS h (bucket, user_id, key, points, at, until, source_type, source_id, caller_key)
    VALUES (own_bucket, hold.user_id, key_id, hold.points, hold.at, hold.until, hold.source_type, hold.source_id, hold.key)
    ON CONFLICT (bucket, key) DO UPDATE SET at = excluded.at, until = excluded.until;
    -- The row is written even where the count stays: so a transaction with an older snapshot that waits for the lock fails
    -- (REPEATABLE READ) instead of reading the holds as they were.
    UPDATE pointsd.accounts AS a SET open_holds = a.open_holds + CASE WHEN standing.key IS NULL THEN 1 ELSE 0 END
    WHERE a.bucket = own_bucket AND a.user_id = hold.user_id;
    status := 'held';
END
$$;

-- Ends a hold whose work is not done after all. status is `released`, `replayed` or `rejected`.
CREATE FUNCTION pointsd.release(
    user_id uuid, source_type text DEFAULT NULL, source_id text DEFAULT NULL, key text DEFAULT NULL,
    OUT status text, OUT code text, OUT message text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own_bucket smallint := pointsd.bucket_of(release.user_id);
    key_id uuid := pointsd.key_id(release.user_id, coalesce(release.key, pointsd.work_key(release.source_type, release.source_id)));
    standing pointsd.holds;
BEGIN
    status := 'rejected';
    IF key_id IS NULL OR length(release.key) NOT BETWEEN 1 AND 255 OR length(release.source_type) NOT BETWEEN 1 AND 64
        OR length(release.source_id) NOT BETWEEN 1 AND 255
        OR release.key IS NOT NULL AND coalesce(release.source_type, release.source_id) IS NOT NULL
    THEN
        code := 'malformed';
        message := 'a release needs user_id, and either source_type with source_id, or key';
        RETURN;
    END IF;
    PERFORM pointsd.keep_bucket(own_bucket);
    PERFORM FROM pointsd.accounts AS a WHERE a.bucket = own_bucket AND a.user_id = release.user_id FOR NO KEY UPDATE;
    SELECT * INTO standing FROM pointsd.holds AS h WHERE h.bucket = own_bucket AND h.key = key_id;
    CASE standing.state
        WHEN 'open' THEN
            UPDATE pointsd.holds AS h SET state = 'released' WHERE h.bucket = own_bucket AND h.key = key_id;
            UPDATE pointsd.accounts AS a SET open_holds = a.open_holds - 1 WHERE a.bucket = own_bucket AND a.user_id = release.user_id;
            status := 'released';
        WHEN 'released' THEN
            status := 'replayed';
        WHEN 'captured' THEN
            code := 'key_conflict';
            message := format('the hold was captured by entry %s; refund it instead', standing.seq);
        ELSE
            code := 'unknown_hold';
            message := 'the account has no such hold';
    END CASE;
END
$$;

REVOKE ALL ON FUNCTION pointsd.account, pointsd.account_then, pointsd.check, pointsd.hold, pointsd.release FROM PUBLIC;
