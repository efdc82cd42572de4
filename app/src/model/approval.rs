//! One decision at a gate as stored: who said yes or no to exactly what.

use super::ids::{ApprovalId, RepoId, RunId, StageId};
use super::time::Timestamp;

/// How old the forge's word about an approver may be when a job is claimed: 15 minutes. The claim query has the number.
pub const FRESH_MILLIS: i64 = 900_000;
/// How long an approval counts, and how long a gate waits that says nothing else: 14 days.
pub const LIFE_MILLIS: i64 = 14 * 24 * 3_600_000;

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, sqlx::Type)]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// One decision. It counts for the commit, the plan and the stage it names, and for nothing else.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the approval table, which explains them")]
pub struct Approval {
    pub id: ApprovalId,
    pub repo_id: RepoId,
    pub run_id: RunId,
    /// `None`: the run as a whole, where a stranger wrote it.
    pub stage_id: Option<StageId>,
    pub decision: Verdict,
    pub actor: String,
    pub approver: String,
    pub actor_forge_id: Option<i64>,
    pub permission: Option<String>,
    pub pull_request: Option<i64>,
    /// The commit that is built.
    pub sha: String,
    /// The commit that was shown: a pull request's head.
    pub head_sha: String,
    pub base_sha: Option<String>,
    pub plan_digest: String,
    pub environment: Option<String>,
    pub inputs_digest: String,
    pub comment: Option<String>,
    pub via: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub asked_at: Option<Timestamp>,
    pub unanswered: Option<String>,
    pub voided_at: Option<Timestamp>,
    pub void_reason: Option<String>,
    /// Whether it differs from what is stored.
    #[sqlx(skip)]
    pub dirty: bool,
    /// Whether it is not stored yet.
    #[sqlx(skip)]
    pub fresh: bool,
}

impl Approval {
    /// Takes its effect away, for a reason people will read. What was void before keeps its reason.
    pub fn void(&mut self, reason: impl Into<String>, now: Timestamp) {
        if self.voided_at.is_none() {
            self.voided_at = Some(now);
            self.void_reason = Some(reason.into());
            self.dirty = true;
        }
    }

    /// Whether the forge's word about the approver is too old for a claim.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.asked_at.is_some_and(|asked| now.since(asked) >= FRESH_MILLIS)
    }
}
