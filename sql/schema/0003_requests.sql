-- The queue: postings that an application inserts in its own transaction, and that a daemon posts.
--
-- Open requests live in a small partition, finished ones in another that only grows: finishing a request moves its row.
-- So the part that is searched and vacuumed all day stays as small as the backlog.

CREATE TABLE pointsd.requests (
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    user_id     uuid        NOT NULL,
    points      bigint,                                         -- null: all that is left of what a refund or a void names
    order_id    bigint,
    at          timestamptz NOT NULL DEFAULT now(),             -- when it happened
    expires_at  timestamptz,
    until       timestamptz,                                    -- when a hold ends
    paid        bigint,                                         -- what a recharge cost, in minor units of currency
    enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at    timestamptz,                                    -- while it waits: when it is tried again
    finished_at timestamptz,                                    -- null while it is open
    seq         bigint,                                         -- the entry that it became
    attempts    integer     NOT NULL DEFAULT 0,                 -- tries that failed
    bucket      smallint    NOT NULL DEFAULT 0,                 -- always 0: lanes alone part the queue
    -- Requests of one account are always in the same lane. Any spread will do; the last byte of most user ids is random.
    lane        smallint    NOT NULL GENERATED ALWAYS AS ((get_byte(uuid_send(user_id), 15) % 4)::smallint) STORED,
    op          text        NOT NULL,
    state       text        NOT NULL DEFAULT 'pending',
    source      text,
    source_type text,
    source_id   text,
    of          text,                                           -- the key of the posting that is refunded, voided or released
    beyond      text,                                           -- `remaining`: a void takes nothing that was used
    currency    text,
    key         text,
    description text,
    duration    numeric,
    code        text,                                           -- why it was not posted, in a word …
    message     text,                                           -- … and in words
    CONSTRAINT requests_id_positive CHECK (id > 0),
    CONSTRAINT requests_op_known CHECK (op IN ('recharge', 'consume', 'refund', 'void', 'hold', 'release')),
    CONSTRAINT requests_points_given CHECK (points IS NOT NULL OR op IN ('refund', 'void', 'release')),
    CONSTRAINT requests_state_known
        CHECK (state IN ('pending', 'waiting', 'posted', 'held', 'released', 'replayed', 'refused', 'parked')),
    CONSTRAINT requests_finished_when_over CHECK ((finished_at IS NULL) = (state IN ('pending', 'waiting'))),
    CONSTRAINT requests_waiting_until CHECK ((retry_at IS NOT NULL) = (state = 'waiting')),
    CONSTRAINT requests_posted_as_entry
        CHECK ((seq IS NOT NULL) = (state = 'posted' OR state = 'replayed' AND op NOT IN ('hold', 'release'))),
    CONSTRAINT requests_not_posted_for_a_reason
        CHECK ((code IS NOT NULL AND message IS NOT NULL) = (state IN ('waiting', 'refused', 'parked')))
) PARTITION BY LIST (state);

-- Each row is new, taken once and gone. So autovacuum starts after a number of rows, not after a share of the table, and
-- works at full speed: dead rows stand in front of the next ones.
CREATE TABLE pointsd.requests_open PARTITION OF pointsd.requests (
    CONSTRAINT requests_open_pkey PRIMARY KEY (bucket, lane, id)
) FOR VALUES IN ('pending', 'waiting') WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000
);
-- Finds one request. A hash has no order, so no plan can take the next requests of a lane from it and skip over those of
-- the other lanes.
CREATE INDEX requests_open_by_id ON pointsd.requests_open USING hash (id);
-- Finds the failed requests that hold up an account; hardly ever more than a few. It is the only partial index here, so a
-- plan made while it was empty cannot choose another one for this look-up.
CREATE INDEX requests_waiting ON pointsd.requests_open (bucket, user_id, id) WHERE state = 'waiting';

-- The key includes finished_at: an id that was given a second time by hand must not keep a request from being finished. It
-- begins with the id, not with the bucket, because a person asks for a request by its id alone.
CREATE TABLE pointsd.requests_done PARTITION OF pointsd.requests (
    finished_at NOT NULL,
    CONSTRAINT requests_done_pkey PRIMARY KEY (id, finished_at)
) FOR VALUES IN ('posted', 'held', 'released', 'replayed', 'refused', 'parked');
-- Lists the finished requests of a state, above all those that a person should look at. Posted ones need no index: among the
-- newest of all there are always some.
CREATE INDEX requests_done_by_state ON pointsd.requests_done (state, id) WHERE state <> 'posted';

-- The open requests as a daemon reads them, but for those behind a failed one: while a request waits, so do the later ones of its
-- account.
-- Every row is readable by the driver. An instant out of range becomes one that the ledger refuses, and a number comes as its
-- digits. A text that is too long is cut just beyond its limit, so that the ledger still refuses it.
-- No volatile function here: with one, a statement would read the whole lane before it takes the first requests.
CREATE VIEW pointsd.requests_unblocked AS
SELECT r.id, r.user_id, r.bucket, r.lane, r.state, r.retry_at, r.op, r.points, left(r.source, 65) AS source, r.order_id,
       r.paid, left(r.currency, 21) AS currency,
       CASE WHEN r.expires_at >= '1970-01-01Z' AND r.expires_at < '10000-01-01Z' THEN r.expires_at
            WHEN r.expires_at IS NOT NULL THEN '1969-12-31Z' END AS expires_at,
       left(r.source_type, 65) AS source_type, left(r.source_id, 256) AS source_id,
       CASE WHEN r.until >= '1970-01-01Z' AND r.until < '10000-01-01Z' THEN r.until
            WHEN r.until IS NOT NULL THEN '1969-12-31Z' END AS until,
       left(r.of, 256) AS of, left(r.beyond, 16) AS beyond,
       left(r.duration::text, 100) AS duration, left(r.key, 256) AS key, left(r.description, 1001) AS description,
       CASE WHEN r.at >= '1970-01-01Z' AND r.at < '10000-01-01Z' THEN r.at ELSE '1969-12-31Z' END AS at,
       CASE WHEN r.enqueued_at >= '1970-01-01Z' AND r.enqueued_at < '10000-01-01Z' THEN r.enqueued_at END AS enqueued_at
FROM pointsd.requests_open AS r
WHERE NOT EXISTS (SELECT FROM pointsd.requests_open AS w
                  WHERE w.state = 'waiting' AND w.bucket = 0 AND w.user_id = r.user_id AND w.id < r.id
                  OFFSET 0); -- asked by the index for each row: as a join it would be planned once, for no rows at all

-- One row a lane. A daemon locks the row while it works on the lane: one transaction at a time, in all daemons together.
-- So the requests of an account keep their order, and no request needs a lock of its own.
CREATE TABLE pointsd.request_lanes (
    lane smallint NOT NULL,
    CONSTRAINT request_lanes_pkey PRIMARY KEY (lane)
);
INSERT INTO pointsd.request_lanes SELECT generate_series(0, 3);

-- Tells the planner that all rows lie in one bucket: see the ledger's tables.
ALTER TABLE pointsd.requests_open ALTER COLUMN bucket SET (n_distinct = 1);
INSERT INTO pointsd.requests_open (id, user_id, points, op) OVERRIDING SYSTEM VALUE
SELECT nth, gen_random_uuid(), 0, 'consume' FROM generate_series(1, 20) AS nth;
ANALYZE pointsd.requests_open (bucket);
SAVEPOINT sample;
TRUNCATE pointsd.requests_open;
RELEASE SAVEPOINT sample;

-- Notifies a daemon that sleeps, and only then, because transactions with a NOTIFY commit one after the other. A sleeping
-- daemon holds the advisory lock ("requests" in ASCII). Where the lock is free, the inserting transaction shares it to its
-- end, and a daemon goes to sleep only after that end. So no request is overlooked.
CREATE FUNCTION pointsd.announce_requests() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM inserted WHERE state <> 'pending' OR attempts <> 0) THEN
        RAISE EXCEPTION 'a request is inserted as pending, with no attempts'
            USING ERRCODE = 'check_violation', HINT = 'Leave out state, attempts and the columns of the outcome.';
    END IF;
    IF NOT pg_try_advisory_xact_lock_shared(x'7265717565737473'::bigint) THEN
        NOTIFY pointsd_requests;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER requests_ring AFTER INSERT ON pointsd.requests
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION pointsd.announce_requests();

-- Gives the transaction its number before its requests get their ids. From this a daemon knows a watermark: the last id
-- that was given before the oldest open transaction began. No request with a smaller id can turn up later.
CREATE FUNCTION pointsd.number_transaction() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_current_xact_id();
    RETURN NULL;
END
$$;

CREATE TRIGGER requests_number_transaction BEFORE INSERT ON pointsd.requests
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.number_transaction();

-- The same as an INSERT, as a call; returns the request's id.
CREATE FUNCTION pointsd.enqueue(
    op text, user_id uuid, points bigint DEFAULT NULL,
    source text DEFAULT NULL, order_id bigint DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    source_type text DEFAULT NULL, source_id text DEFAULT NULL, duration numeric DEFAULT NULL,
    key text DEFAULT NULL, description text DEFAULT NULL, at timestamptz DEFAULT now(),
    of text DEFAULT NULL, beyond text DEFAULT NULL, until timestamptz DEFAULT NULL,
    paid bigint DEFAULT NULL, currency text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request bigint;
BEGIN
    INSERT INTO pointsd.requests (op, user_id, points, source, order_id, expires_at, source_type, source_id, duration, key,
                               description, at, of, beyond, until, paid, currency)
    VALUES (enqueue.op, enqueue.user_id, enqueue.points, enqueue.source, enqueue.order_id, enqueue.expires_at,
            enqueue.source_type, enqueue.source_id, enqueue.duration, enqueue.key, enqueue.description,
            coalesce(enqueue.at, now()), enqueue.of, enqueue.beyond, enqueue.until,
            enqueue.paid, enqueue.currency)
    RETURNING id INTO request;
    RETURN request;
END
$$;
