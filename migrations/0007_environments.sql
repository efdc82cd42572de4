-- Environments: what was deployed to each, who locked it, and what is rolled back to.

CREATE TABLE environment (
    repo_id TEXT NOT NULL,
    name_key TEXT NOT NULL,           -- lower(name): a forge takes 'Production' and 'production' for the same
    name TEXT NOT NULL,               -- as it was first written
    next_number BIGINT NOT NULL DEFAULT 1,
    locked_at BIGINT,                 -- NULL: not locked
    locked_by TEXT,
    locked_reason TEXT,
    locked_run_id TEXT,               -- the run whose rollback left the lock: its own jobs pass
    lock_changed_at BIGINT,           -- when it was last locked or unlocked
    forge_error TEXT,                 -- why the forge is not told of deployments, where it refuses
    created_at BIGINT NOT NULL,
    PRIMARY KEY (repo_id, name_key)
);

-- The ledger: one row for each attempt of a stage with an environment whose code began.
CREATE TABLE deployment (
    id TEXT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    environment TEXT NOT NULL,        -- environment.name_key
    number BIGINT NOT NULL,           -- counts in the environment, from 1
    run_id TEXT NOT NULL,
    stage_id TEXT NOT NULL,
    stage TEXT NOT NULL,              -- its name
    attempt BIGINT NOT NULL,
    pipeline TEXT NOT NULL,
    git_ref TEXT NOT NULL,
    sha TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    inputs TEXT NOT NULL,
    artifacts TEXT NOT NULL DEFAULT '{}', -- {name: digest}, once runs have artifacts
    actor TEXT NOT NULL,
    approvers TEXT NOT NULL,          -- JSON list
    rollback_to BIGINT,               -- the number of the deployment it makes again
    state TEXT NOT NULL,              -- in_progress, succeeded, failed, rolled_back, superseded
    reason TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE UNIQUE INDEX deployment_number ON deployment (repo_id, environment, number);
CREATE UNIQUE INDEX deployment_attempt ON deployment (stage_id, attempt);
CREATE INDEX deployment_run ON deployment (run_id);

ALTER TABLE run ADD COLUMN rollback_to TEXT;       -- the deployment this run makes again
ALTER TABLE run ADD COLUMN through_lock BIGINT;    -- it goes through locks that were there at this time
ALTER TABLE stage ADD COLUMN set_aside BOOLEAN NOT NULL DEFAULT FALSE; -- settled from the start, it never runs in this run
ALTER TABLE job ADD COLUMN environment TEXT;       -- environment.name_key of its stage

-- The local forge's own shelf.
CREATE TABLE local_deployment (
    id BIGINT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    external_id TEXT NOT NULL,
    body TEXT NOT NULL,
    statuses TEXT NOT NULL            -- JSON list, oldest first
);
CREATE INDEX local_deployment_repo ON local_deployment (repo_id, external_id);
