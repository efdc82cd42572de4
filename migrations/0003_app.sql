-- The GitHub App that was set up on the instance's own page, and what is encrypted at rest.

-- Every secret of the instance, sealed (see secrets.rs): bound to what it belongs to, with the id of the key it was sealed
-- with, so that a new key can take over one row after the other.
CREATE TABLE sealed (
    kind TEXT NOT NULL,               -- the table it belongs to: 'github_app'
    owner TEXT NOT NULL,              -- the row there
    name TEXT NOT NULL,               -- the field there
    key_id TEXT NOT NULL,
    value BYTEA NOT NULL,             -- format, nonce, ciphertext
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, owner, name)
);
CREATE INDEX sealed_key ON sealed (key_id);

-- At most one row: an instance is one App. Its key and webhook secrets are in sealed.
CREATE TABLE github_app (
    id TEXT PRIMARY KEY,              -- always 'app'
    app_id BIGINT NOT NULL,           -- GitHub's own number of it
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,              -- the login of the user or organisation it belongs to
    html_url TEXT NOT NULL,
    api_url TEXT NOT NULL,
    server_url TEXT NOT NULL,
    client_id TEXT NOT NULL,
    revision TEXT NOT NULL,           -- another one after every change: instances load it anew by this
    next_secret_at BIGINT,            -- since when a new webhook secret is accepted that GitHub was not told yet
    previous_secret_until BIGINT,     -- how long the webhook secret before this one is accepted
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- A way to GitHub and back that was begun in a browser: good once, for an hour, for the session that began it.
CREATE TABLE setup_state (
    state_hash TEXT PRIMARY KEY,
    session_hash TEXT NOT NULL,
    api_url TEXT NOT NULL,
    server_url TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
