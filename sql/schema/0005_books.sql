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
