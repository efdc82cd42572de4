//! A job as stored: what a runner claims.

use super::ids::{JobId, RepoId, RunId, RunnerId, StageId};
use super::state::JobState;
use super::time::Timestamp;
use pipelines_spec::plan::{Label, Stage};
use pipelines_spec::protocol::{ExecutorKind, JobKind};

/// One attempt of a stage, or its rollback.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the job table, which explains them")]
pub struct Job {
    pub id: JobId,
    pub run_id: RunId,
    pub stage_id: StageId,
    pub repo_id: RepoId,
    pub kind: String,
    pub attempt: i64,
    pub state: JobState,
    pub label_set: String,
    pub executor: Option<String>,
    pub trust: String,
    pub gated: bool,
    pub priority: i64,
    pub available_at: Timestamp,
    pub epoch: i64,
    pub runner_id: Option<RunnerId>,
    pub claim_id: Option<String>,
    pub lease_until: Option<Timestamp>,
    pub cancel_requested: bool,
    pub conclusion: Option<String>,
    pub result: Option<String>,
    pub log_bytes: i64,
    pub log_complete: bool,
    pub created_at: Timestamp,
    pub claimed_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub environment: Option<String>,
    /// Whether it differs from what is stored.
    #[sqlx(skip)]
    pub dirty: bool,
    /// Whether it is not stored yet.
    #[sqlx(skip)]
    pub fresh: bool,
    /// The state it was loaded in. A claim does not lock the run, so saving asks whether it still is.
    #[sqlx(skip)]
    pub stored_state: Option<JobState>,
}

impl Job {
    /// Whether it undoes its stage.
    pub fn is_rollback(&self) -> bool {
        self.kind == JobKind::Rollback.to_string()
    }

    /// Ends it.
    pub fn finish(&mut self, conclusion: &str, now: Timestamp) {
        self.state = JobState::Finished;
        self.conclusion = Some(conclusion.to_owned());
        self.finished_at = Some(now);
        self.lease_until = None;
        self.dirty = true;
    }
}

/// The canonical text of a set of labels: sorted, without repeats. Few different ones exist at a time.
pub fn label_set(labels: &[Label]) -> String {
    let mut texts: Vec<String> = labels.iter().map(ToString::to_string).collect();
    texts.sort();
    texts.dedup();
    texts.join(",")
}

/// Whether a runner with `labels` may take a job with this label set.
pub fn satisfies(label_set: &str, labels: &[Label]) -> bool {
    label_set
        .split(',')
        .filter(|wanted| !wanted.is_empty())
        .all(|wanted| labels.iter().any(|label| label.to_string() == wanted))
}

/// The executor a stage asks for: an isolating one where it names a container or has services beside it.
pub fn executor_of(stage: &Stage) -> Option<String> {
    let isolated = stage.container.is_some() || !stage.services.is_empty();
    isolated.then(|| ExecutorKind::Podman.to_string())
}
