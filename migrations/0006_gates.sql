-- Gates: why a run is not trusted, who caused it, and approvals that say everything they are bound to.

ALTER TABLE run ADD COLUMN trust_reason TEXT;                    -- why it is not trusted, in one sentence
ALTER TABLE run ADD COLUMN caused_by TEXT NOT NULL DEFAULT '[]'; -- JSON list of accounts: who caused it, who opened its pull request
ALTER TABLE run ADD COLUMN outdated TEXT;                        -- why nothing of it may be approved any more; NULL: it still stands

ALTER TABLE stage ADD COLUMN approvals_needed BIGINT NOT NULL DEFAULT 1;

ALTER TABLE approval ADD COLUMN repo_id TEXT NOT NULL DEFAULT '';
ALTER TABLE approval ADD COLUMN approver TEXT NOT NULL DEFAULT '';  -- 'id:11' or 'token:NAME': tells people apart
ALTER TABLE approval ADD COLUMN permission TEXT;                    -- what the forge said they may do
ALTER TABLE approval ADD COLUMN pull_request BIGINT;
ALTER TABLE approval ADD COLUMN head_sha TEXT NOT NULL DEFAULT '';
ALTER TABLE approval ADD COLUMN base_sha TEXT;
ALTER TABLE approval ADD COLUMN environment TEXT;
ALTER TABLE approval ADD COLUMN inputs_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE approval ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE approval ADD COLUMN asked_at BIGINT;                    -- when the forge last vouched for them; NULL: a credential of ours
ALTER TABLE approval ADD COLUMN recheck_at BIGINT;                  -- not asked again before
ALTER TABLE approval ADD COLUMN unanswered TEXT;                    -- why the forge did not vouch for them when it was last asked
ALTER TABLE approval ADD COLUMN void_reason TEXT;
UPDATE approval SET approver = 'token:' || actor, head_sha = sha, expires_at = created_at + 1209600000;
CREATE INDEX approval_stage ON approval (stage_id) WHERE stage_id IS NOT NULL;

ALTER TABLE report ADD COLUMN gate_told_at BIGINT; -- since when the forge shows that this waits for people
CREATE INDEX stage_waiting ON stage (id) WHERE state = 'awaiting_approval';
