-- What triggers need to be remembered for.

-- How often a delivery was put off because the forge had not worked something out yet.
ALTER TABLE delivery ADD COLUMN waits BIGINT NOT NULL DEFAULT 0;

-- Whether the run's own change could have made it skip everything: then its status does not pass where all was skipped.
ALTER TABLE run ADD COLUMN unproven BOOLEAN NOT NULL DEFAULT FALSE;

-- Whether a commit status speaks for a pull request: nothing that is not meant for one replaces it.
ALTER TABLE report ADD COLUMN for_pull BOOLEAN NOT NULL DEFAULT FALSE;

-- active, archived, deleted
ALTER TABLE repo ADD COLUMN standing TEXT NOT NULL DEFAULT 'active';

-- Names a repository had before it was renamed or transferred.
CREATE TABLE repo_alias (
    full_name_key TEXT PRIMARY KEY,
    repo_id TEXT NOT NULL,
    since BIGINT NOT NULL
);

-- Which commits of which refs were decided about, so that a sweep knows what was missed.
CREATE TABLE decided_ref (
    repo_id TEXT NOT NULL,
    git_ref TEXT NOT NULL,
    sha TEXT NOT NULL,
    decided_at BIGINT NOT NULL,
    PRIMARY KEY (repo_id, git_ref, sha)
);
