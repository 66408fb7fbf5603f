-- The books of business days.

-- The roll-forward of each business day that is over, by source of the batches concerned. A source has rows from its first
-- movement until nothing is left of it. Source '' stands for arrears, which belong to no source; it has a row every day.
-- A day's rows are written once. An entry that is found in a closed day is reported as a finding.
CREATE TABLE pointsd.days (
    day       date        NOT NULL,
    source    text        NOT NULL,
    ended     timestamptz NOT NULL, -- the first instant after it: kept, because business.time_zone may change
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- a time to come shows that the clock was ahead
    opening   bigint      NOT NULL,
    opened    bigint      NOT NULL, -- brought along from elsewhere; for '' below zero: debts
    recharged bigint      NOT NULL, -- 0 for ''
    refunded  bigint      NOT NULL, -- 0 for ''
    settled   bigint      NOT NULL, -- recharged or refunded points that paid arrears at once; for '' below zero: arrears shrink
    consumed  bigint      NOT NULL, -- for '': what consumes took beyond the points that the account had
    voided    bigint      NOT NULL, -- for '': what voids took beyond the points that the account had
    expired   bigint      NOT NULL, -- gross: restored points are in it
    restored  bigint      NOT NULL, -- expired points that came back for late usage; 0 for ''
    adjusted  bigint      NOT NULL, -- by adjust entries, up or down
    closing   bigint      NOT NULL,
    CONSTRAINT days_pkey PRIMARY KEY (day, source),
    CONSTRAINT days_add_up
        CHECK (closing = opening + opened + recharged + refunded - settled - consumed - voided - expired + restored + adjusted)
);

-- The same in money: the deferred revenue of each business day, in minor units, by currency and source of the batches. A source has rows
-- from its first price until nothing of it is deferred. They are written with the day's rows above.
CREATE TABLE pointsd.day_money (
    day       date   NOT NULL,
    currency  text   NOT NULL,
    source    text   NOT NULL,
    opening   bigint NOT NULL, -- deferred: paid, and released by no point yet
    opened    bigint NOT NULL, -- of points that were brought along from elsewhere
    sold      bigint NOT NULL, -- the prices of recharges
    used      bigint NOT NULL, -- recognised on use; below zero where refunds and voids took back more
    expired   bigint NOT NULL, -- recognised on expiry, less what was restored
    returned  bigint NOT NULL, -- to customers, by voids
    corrected bigint NOT NULL, -- by adjust entries, up or down
    closing   bigint NOT NULL,
    CONSTRAINT day_money_pkey PRIMARY KEY (day, currency, source),
    CONSTRAINT day_money_adds_up CHECK (closing = opening + opened + sold - used - expired - returned + corrected)
);

-- The seal of a closed day: fingerprints of its entries and of its rows above. As long as both are the same, the day need not be
-- computed again from its entries.
CREATE TABLE pointsd.day_seals (
    day           date   NOT NULL,
    entries_print bigint NOT NULL, -- pointsd.entry_print of the entries recorded on it, added up and folded
    books_print   bigint NOT NULL, -- pointsd.books_print of the day
    CONSTRAINT day_seals_pkey PRIMARY KEY (day)
);

-- The fingerprint of a day's rows.
CREATE FUNCTION pointsd.books_print(day date) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pointsd.fold_print(
        coalesce((SELECT sum(hash_record_extended(d, 1)) FROM pointsd.days AS d WHERE d.day = books_print.day), 0)
        + coalesce((SELECT sum(hash_record_extended(m, 2)) FROM pointsd.day_money AS m WHERE m.day = books_print.day), 0));
END
$$;

-- Days that are deleted, to be closed again, take their money and their seals with them.
CREATE FUNCTION pointsd.delete_rest_of_days() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM pointsd.day_money WHERE day IN (SELECT day FROM gone);
    DELETE FROM pointsd.day_seals WHERE day IN (SELECT day FROM gone);
    RETURN NULL;
END
$$;
CREATE TRIGGER days_take_their_rest AFTER DELETE ON pointsd.days REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.delete_rest_of_days();

-- The closings and reopenings of months. A month is closed if its last event closed it; the event keeps its report and its totals.
-- Nothing refuses a later posting for a closed month: it is recorded in the current one.
CREATE TABLE pointsd.periods (
    event    bigint      GENERATED ALWAYS AS IDENTITY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    month    date        NOT NULL, -- its first day
    action   text        NOT NULL,
    by       text        NOT NULL, -- the operator
    reason   text,                 -- why the month was reopened
    totals   jsonb,                -- of a closing: the figures of each source, in points and in money
    document jsonb,                -- of a closing: the report as of then
    CONSTRAINT periods_pkey PRIMARY KEY (event),
    CONSTRAINT periods_month_begins CHECK (month = date_trunc('month', month)::date),
    CONSTRAINT periods_action_known CHECK (action IN ('close', 'reopen')),
    CONSTRAINT periods_closing_keeps CHECK ((action = 'close') = (document IS NOT NULL) AND (action = 'close') = (totals IS NOT NULL)),
    CONSTRAINT periods_reopening_has_reason CHECK ((action = 'reopen') = (reason IS NOT NULL))
);

-- ALWAYS: it fires also where a replica or a restore switches ordinary triggers off.
CREATE TRIGGER periods_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON pointsd.periods
    FOR EACH STATEMENT EXECUTE FUNCTION pointsd.refuse_change();
ALTER TABLE pointsd.periods ENABLE ALWAYS TRIGGER periods_never_change;
