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
        CHECK (closing = opening + recharged + refunded - settled - consumed - voided - expired + restored + adjusted)
);

-- The same in money: the deferred revenue of each business day, in minor units, by currency and source of the batches. A source has rows
-- from its first price until nothing of it is deferred. They are written with the day's rows above.
CREATE TABLE pointsd.day_money (
    day       date   NOT NULL,
    currency  text   NOT NULL,
    source    text   NOT NULL,
    opening   bigint NOT NULL, -- deferred: paid, and released by no point yet
    sold      bigint NOT NULL, -- the prices of recharges
    used      bigint NOT NULL, -- recognised on use; below zero where refunds and voids took back more
    expired   bigint NOT NULL, -- recognised on expiry, less what was restored
    returned  bigint NOT NULL, -- to customers, by voids
    corrected bigint NOT NULL, -- by adjust entries, up or down
    closing   bigint NOT NULL,
    CONSTRAINT day_money_pkey PRIMARY KEY (day, currency, source),
    CONSTRAINT day_money_adds_up CHECK (closing = opening + sold - used - expired - returned + corrected)
);
