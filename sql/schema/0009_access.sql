-- Tokens of callers over HTTP, and the orders that came that way.

-- A token is a number and a random secret of 256 bits, of which only the hash is kept.
CREATE TABLE pointsd.tokens (
    token        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    scopes       text[] NOT NULL CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['post', 'read', 'operate']),
    hash         bytea NOT NULL CHECK (length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by   text NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    revoked_by   text,
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);

-- A name is free again once its token is revoked.
CREATE UNIQUE INDEX tokens_by_name ON pointsd.tokens (name) WHERE revoked_at IS NULL;

-- Each order that came over HTTP, such as the pause of a job.
CREATE TABLE pointsd.audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    token   integer NOT NULL REFERENCES pointsd.tokens,
    by      text NOT NULL,    -- the token's name then
    action  text NOT NULL,    -- such as pause
    subject text NOT NULL,    -- such as the job's name
    outcome text NOT NULL     -- in a few words
);
