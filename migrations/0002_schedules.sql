-- Clock times: which pipelines the default branches define for them, and each time one was due.

-- When a repository's default branch is to be read again for its schedules (0: now), and what became of it last time.
ALTER TABLE repo ADD COLUMN definitions_due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN definitions_read_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN definitions_attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN definitions_sha TEXT;     -- the commit whose schedules are stored
ALTER TABLE repo ADD COLUMN definitions_problem TEXT; -- why they could not be read
CREATE INDEX repo_definitions_due ON repo (definitions_due_at);

-- An entry of `on.schedule`. It is the same one as long as pipeline, expression, zone and inputs are.
CREATE TABLE schedule (
    id TEXT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    inputs TEXT NOT NULL,
    shown_inputs TEXT NOT NULL,       -- the same with secret ones hidden
    entry TEXT NOT NULL,              -- digest of expression, zone and inputs
    catch_up BOOLEAN NOT NULL,
    paused_by TEXT,
    paused_at BIGINT,
    problem TEXT,                     -- why the definition it stands in cannot be read now
    next_due_at BIGINT,               -- NULL: paused, or never again
    last_due_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX schedule_entry ON schedule (repo_id, pipeline, entry);
CREATE INDEX schedule_due ON schedule (next_due_at) WHERE next_due_at IS NOT NULL;

-- One due time of a schedule. Its key is what makes it fire once.
CREATE TABLE firing (
    schedule_id TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    state TEXT NOT NULL,              -- pending, started, skipped, failed
    reason TEXT NOT NULL,
    missed_since BIGINT,              -- the first of the times before it that nobody was there for
    run_id TEXT,
    attempts BIGINT NOT NULL DEFAULT 0,
    available_at BIGINT NOT NULL,     -- not tried before; pushed ahead while one instance works on it
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX firing_open ON firing (available_at) WHERE state = 'pending';
CREATE INDEX firing_old ON firing (created_at);
CREATE INDEX decision_alone ON decision (created_at) WHERE delivery_id IS NULL;
