-- Telling a forge without ever asking too much of it, and finding what it could not tell us.

-- Who tells an installation's reports: one writer at a time, whatever the number of instances.
CREATE TABLE report_writer (
    writer TEXT PRIMARY KEY,          -- 'installation:7'; a repository's id where no installation is known
    holder TEXT,                      -- the pass that tells now
    held_until BIGINT NOT NULL,
    silent_until BIGINT NOT NULL,     -- the forge asked for silence, or did not answer
    failures BIGINT NOT NULL DEFAULT 0, -- answers that did not come, in a row
    served_at BIGINT NOT NULL DEFAULT 0
);

-- What was created at a forge within the last hour (check runs, statuses, comments); negative where it was not after all.
CREATE TABLE report_spending (
    writer TEXT NOT NULL,
    spent_at BIGINT NOT NULL,
    creations BIGINT NOT NULL
);
CREATE INDEX report_spending_recent ON report_spending (writer, spent_at);

ALTER TABLE report ADD COLUMN urgency BIGINT NOT NULL DEFAULT 0; -- 0: an end, or people are asked; more: it can wait
ALTER TABLE report ADD COLUMN gave_up_at BIGINT;                 -- refused for a day; told again only if somebody asks

-- Work that one instance does at a time.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT,
    held_until BIGINT NOT NULL,
    next_at BIGINT NOT NULL           -- not begun again before
);

-- Deliveries a forge tried to make and could not.
CREATE TABLE missed_delivery (
    guid TEXT PRIMARY KEY,
    hook_id BIGINT NOT NULL,          -- the forge's id of its newest try
    event TEXT NOT NULL,
    delivered_at BIGINT NOT NULL,
    state TEXT NOT NULL,              -- open, arrived, fetched, given_up
    asked BIGINT NOT NULL DEFAULT 0,  -- how often we asked for it
    next_at BIGINT NOT NULL,
    last_error TEXT,
    found_at BIGINT NOT NULL
);
CREATE INDEX missed_delivery_open ON missed_delivery (next_at) WHERE state = 'open';

-- What a repository's branches, tags and pull requests were when they were last looked at.
CREATE TABLE sweep (
    repo_id TEXT PRIMARY KEY,
    next_at BIGINT NOT NULL,          -- when it is looked at again
    heads TEXT NOT NULL               -- {ref: {sha, since}}: since when a head is seen that no delivery told of
);

ALTER TABLE decision ADD COLUMN git_ref TEXT;
ALTER TABLE decision ADD COLUMN pull_request BIGINT;
ALTER TABLE decision ADD COLUMN file TEXT;
ALTER TABLE decision ADD COLUMN trust TEXT;
CREATE INDEX decision_ref ON decision (repo_id, git_ref, created_at) WHERE git_ref IS NOT NULL;
CREATE INDEX decision_pull_request ON decision (repo_id, pull_request) WHERE pull_request IS NOT NULL;
CREATE INDEX delivery_repo ON delivery (repo_id, received_at) WHERE repo_id IS NOT NULL;

-- Which servers are up: together they stay below a forge's limits.
CREATE TABLE instance (
    id TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL
);
