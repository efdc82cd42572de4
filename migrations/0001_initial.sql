-- One portable set for Postgres and SQLite: only TEXT, BIGINT, BOOLEAN and BYTEA; ids are lower-case ULIDs as text,
-- times are epoch milliseconds, JSON is text. Enums are checked when read, so no CHECK lists. Migrations only add.

-- Forges and repositories ------------------------------------------------------------------------------------------

CREATE TABLE installation (
    id BIGINT PRIMARY KEY,            -- the forge's own id
    account TEXT NOT NULL,
    suspended BOOLEAN NOT NULL DEFAULT FALSE,
    removed BOOLEAN NOT NULL DEFAULT FALSE,
    updated_at BIGINT NOT NULL
);

CREATE TABLE repo (
    id TEXT PRIMARY KEY,              -- 'github:123' or 'local:1': the forge and its numeric id
    forge TEXT NOT NULL,
    forge_id BIGINT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    full_name_key TEXT NOT NULL,      -- lower(owner/name), for look-ups
    default_branch TEXT NOT NULL,
    private BOOLEAN NOT NULL DEFAULT TRUE,
    installation_id BIGINT,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    next_run_number BIGINT NOT NULL DEFAULT 1,
    last_claim_at BIGINT NOT NULL DEFAULT 0, -- fairness: the repository served longest ago goes first
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX repo_forge_id ON repo (forge, forge_id);
CREATE INDEX repo_full_name ON repo (full_name_key);

-- Deliveries and what was decided about them -----------------------------------------------------------------------

CREATE TABLE delivery (
    id TEXT PRIMARY KEY,
    forge TEXT NOT NULL,
    guid TEXT NOT NULL,               -- the forge's own id of the delivery
    event TEXT NOT NULL,
    headers TEXT NOT NULL,
    payload BYTEA NOT NULL,           -- verbatim, as authenticated
    repo_id TEXT,
    state TEXT NOT NULL,              -- pending, done, ignored, dead
    reason TEXT,
    attempts BIGINT NOT NULL DEFAULT 0,
    available_at BIGINT NOT NULL,     -- not taken before; pushed ahead while one instance works on it
    received_at BIGINT NOT NULL,
    done_at BIGINT
);
CREATE UNIQUE INDEX delivery_guid ON delivery (forge, guid);
CREATE INDEX delivery_open ON delivery (available_at) WHERE state = 'pending';
CREATE INDEX delivery_received ON delivery (received_at);

CREATE TABLE decision (
    id TEXT PRIMARY KEY,
    delivery_id TEXT,
    repo_id TEXT NOT NULL,
    pipeline TEXT,                    -- NULL where the decision is about the delivery as a whole
    sha TEXT,
    outcome TEXT NOT NULL,            -- run, skip, error
    reason TEXT NOT NULL,
    run_id TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX decision_delivery ON decision (delivery_id);
CREATE INDEX decision_commit ON decision (repo_id, sha);

-- Definitions ------------------------------------------------------------------------------------------------------

CREATE TABLE bundle (
    digest TEXT PRIMARY KEY,          -- of the sources' canonical JSON
    sources TEXT NOT NULL,            -- {path: text}
    created_at BIGINT NOT NULL
);

-- Runs, stages, jobs -----------------------------------------------------------------------------------------------

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    file TEXT NOT NULL,
    event TEXT NOT NULL,              -- its kind
    facts TEXT NOT NULL,              -- EventFacts
    git_ref TEXT NOT NULL,
    branch TEXT,
    sha TEXT NOT NULL,
    pull_request BIGINT,
    actor TEXT NOT NULL,
    title TEXT NOT NULL,              -- the commit message's first line, at most 200 characters
    trust TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    plan TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    bundle_digest TEXT NOT NULL,
    inputs TEXT NOT NULL,
    concurrency_group TEXT,
    cancel_in_progress BOOLEAN NOT NULL DEFAULT FALSE,
    source_key TEXT NOT NULL,         -- what makes a trigger one trigger, however often it is delivered
    delivery_id TEXT,
    parent_stage_id TEXT,             -- the stage that started it as a child
    rerun_of TEXT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    cancel_reason TEXT,
    version BIGINT NOT NULL DEFAULT 0,
    next_completion BIGINT NOT NULL DEFAULT 1,
    timeout_seconds BIGINT,           -- how long the whole run may take, from its start
    deadline_at BIGINT,
    due_at BIGINT,                    -- when the scheduler should look again by itself; NULL: when something happens
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE UNIQUE INDEX run_number ON run (repo_id, number);
CREATE UNIQUE INDEX run_source ON run (repo_id, pipeline, source_key);
CREATE INDEX run_recent ON run (repo_id, created_at);
CREATE INDEX run_commit ON run (repo_id, sha);
CREATE INDEX run_open ON run (state, id) WHERE finished_at IS NULL;
CREATE INDEX run_due ON run (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX run_group ON run (repo_id, concurrency_group, id) WHERE finished_at IS NULL AND concurrency_group IS NOT NULL;

CREATE TABLE stage (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    base TEXT NOT NULL,
    spec TEXT NOT NULL,               -- PlannedStage
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,       -- the current or last try, from 1; 0 before the first
    max_attempts BIGINT NOT NULL DEFAULT 1,
    user_failures BIGINT NOT NULL DEFAULT 0, -- tries that count against max_attempts
    infra_faults BIGINT NOT NULL DEFAULT 0,  -- tries lost to the machinery, with a bound of their own
    approved BOOLEAN NOT NULL DEFAULT FALSE, -- whether the gate is open for exactly this run's commit and plan
    rollback_state TEXT,              -- NULL, wanted, running, done, failed
    completion BIGINT,                -- the order in which stages of the run succeeded
    error TEXT,                       -- JobError
    outputs TEXT,
    annotations TEXT,
    child_run_id TEXT,
    version BIGINT NOT NULL DEFAULT 0,
    retry_at BIGINT,                  -- not queued again before
    expires_at BIGINT,                -- when a gate closes by itself
    queued_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE UNIQUE INDEX stage_name ON stage (run_id, name);

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    stage_id TEXT NOT NULL,
    repo_id TEXT NOT NULL,
    kind TEXT NOT NULL,               -- stage, rollback
    attempt BIGINT NOT NULL,
    state TEXT NOT NULL,              -- queued, claimed, running, finished
    label_set TEXT NOT NULL,          -- 'arch=x86_64,os=linux', sorted: few different ones exist, so a claim lists them
    executor TEXT,                    -- podman where a container is asked for; NULL: any the trust allows
    trust TEXT NOT NULL,
    gated BOOLEAN NOT NULL DEFAULT FALSE, -- whether only an approved stage's job may be claimed
    priority BIGINT NOT NULL DEFAULT 0,
    available_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    runner_id TEXT,
    claim_id TEXT,
    lease_until BIGINT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    conclusion TEXT,
    result TEXT,                      -- the FinishRequest as it came, so that a repeat is recognised
    log_bytes BIGINT NOT NULL DEFAULT 0,
    log_complete BOOLEAN NOT NULL DEFAULT TRUE,
    created_at BIGINT NOT NULL,
    claimed_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX job_stage ON job (stage_id, attempt);
CREATE INDEX job_run ON job (run_id);
CREATE INDEX job_queue ON job (priority, id) WHERE state = 'queued';
CREATE INDEX job_lease ON job (lease_until) WHERE state IN ('claimed', 'running');
CREATE INDEX job_runner ON job (runner_id) WHERE state IN ('claimed', 'running');
CREATE INDEX job_claim ON job (claim_id) WHERE claim_id IS NOT NULL;

CREATE TABLE log_chunk (
    job_id TEXT NOT NULL,
    position BIGINT NOT NULL,         -- offset of its first byte in the job's log
    bytes BYTEA NOT NULL,
    length BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (job_id, position)
);

CREATE TABLE run_event (
    id TEXT PRIMARY KEY,              -- a ULID, so events of a run sort by it
    run_id TEXT NOT NULL,
    stage TEXT,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX run_event_run ON run_event (run_id, id);

CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    stage_id TEXT,                    -- NULL: the fork gate of the whole run
    decision TEXT NOT NULL,           -- approve, reject
    actor TEXT NOT NULL,
    actor_forge_id BIGINT,
    sha TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    comment TEXT,
    via TEXT NOT NULL,
    voided_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX approval_run ON approval (run_id);

-- Runners and credentials ------------------------------------------------------------------------------------------

CREATE TABLE runner (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    labels TEXT NOT NULL,             -- granted at registration
    executors TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL,              -- active, paused, draining, left, removed
    last_seen_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX runner_token ON runner (token_hash);
CREATE UNIQUE INDEX runner_name ON runner (name);

CREATE TABLE registration_token (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    single_use BOOLEAN NOT NULL DEFAULT TRUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX registration_token_hash ON registration_token (hash);

CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    role TEXT NOT NULL,
    repos TEXT NOT NULL,              -- JSON list of owner/name; empty: all
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX api_token_hash ON api_token (hash);

CREATE TABLE session (
    id_hash TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    actor TEXT NOT NULL,
    csrf TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- What the forge was told ------------------------------------------------------------------------------------------

-- One row for each check run and each commit status a forge should show. `wanted` is computed from runs and stages;
-- `told` is what the forge last acknowledged. A row with different texts is work; equality is the goal.
CREATE TABLE report (
    id TEXT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    run_id TEXT,
    stage_id TEXT,
    kind TEXT NOT NULL,               -- check, status
    sha TEXT NOT NULL,
    name TEXT NOT NULL,               -- check name or status context
    external_id TEXT NOT NULL,        -- 'RUN:STAGE:ATTEMPT' for checks; 'status:CONTEXT' for statuses
    wanted TEXT NOT NULL,
    told TEXT,
    annotations_told BIGINT NOT NULL DEFAULT 0,
    forge_id BIGINT,                  -- the check run's id at the forge, once known
    attempts BIGINT NOT NULL DEFAULT 0,
    next_try_at BIGINT NOT NULL,
    last_error TEXT,
    open BOOLEAN NOT NULL DEFAULT TRUE, -- wanted differs from told
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX report_external ON report (repo_id, sha, external_id);
CREATE INDEX report_open ON report (next_try_at) WHERE open;
CREATE INDEX report_run ON report (run_id);

-- Runs whose report rows must be computed anew; written in the transaction that changes the run.
CREATE TABLE report_due (
    run_id TEXT PRIMARY KEY,
    since BIGINT NOT NULL
);

-- The local forge's own shelf: what GitHub would keep.
CREATE TABLE local_check (
    id BIGINT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    sha TEXT NOT NULL,
    name TEXT NOT NULL,
    external_id TEXT NOT NULL,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX local_check_commit ON local_check (repo_id, sha);

CREATE TABLE local_status (
    repo_id TEXT NOT NULL,
    sha TEXT NOT NULL,
    context TEXT NOT NULL,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repo_id, sha, context)
);
