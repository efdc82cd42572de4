-- What people said in comments and pressed on checks: each command once, however often its delivery comes.

CREATE TABLE command (
    repo_id TEXT NOT NULL,
    source TEXT NOT NULL,             -- 'comment:123', or 'delivery:GUID' where a button was pressed
    position BIGINT NOT NULL,         -- which of a comment's, from 0
    pull_request BIGINT,
    comment_id BIGINT,
    actor TEXT NOT NULL,
    actor_forge_id BIGINT NOT NULL,
    line TEXT NOT NULL,               -- as it was written
    aims TEXT,                        -- JSON: the runs it acts on, each with its version when that was decided
    outcome TEXT,                     -- done, answered, refused, unknown, stranger; NULL: begun and not ended
    answer TEXT,                      -- what is to be read about it, Markdown; NULL: nothing
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    PRIMARY KEY (repo_id, source, position)
);
CREATE INDEX command_pull_request ON command (repo_id, pull_request, created_at);
CREATE INDEX command_actor ON command (repo_id, actor_forge_id, created_at);
CREATE INDEX audit_subject ON audit (subject, id);
