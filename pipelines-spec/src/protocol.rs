//! The runner protocol: what a runner and the app say to each other under `/api/runner/v1/`.
//!
//! Every call but `register` carries `Authorization: Bearer rvr_…` (the runner's own token) and the header
//! [`VERSION_HEADER`]. Identity comes from that token alone; every write about a job names its epoch, and a stale one is
//! answered `409 lease.stale` and changes nothing. Errors are `application/problem+json` (security.md, X1–X13).
//!
//! | call | body → answer |
//! | --- | --- |
//! | `POST register` (bearer: a registration token) | [`RegisterRequest`] → `201` [`RegisterResponse`] |
//! | `POST claim` | [`ClaimRequest`] → `200` [`ClaimResponse`]; waits up to `wait_seconds`, then answers with no jobs |
//! | `POST heartbeat` | [`HeartbeatRequest`] → `200` [`HeartbeatResponse`] |
//! | `POST jobs/{id}/start` | [`StartRequest`] → `204`; from here on the stage's code may have run |
//! | `POST jobs/{id}/logs?epoch=&offset=` | raw bytes → `200` [`LogResponse`]; the same bytes again are harmless |
//! | `POST jobs/{id}/finish` | [`FinishRequest`] → `204`; the same result again is harmless |
//! | `POST leave` | `{}` → `204`: the runner drained and will claim no more |

use crate::plan::{Action, ErrorClass, Label, Service};
use crate::trigger::EventFacts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The version this code speaks. The app also speaks the one before.
pub const VERSION: u32 = 1;
/// The header that carries [`VERSION`].
pub const VERSION_HEADER: &str = "rivet-protocol";
/// Seconds a lease lasts from its last renewal.
pub const LEASE_SECONDS: u64 = 30;
/// Seconds between heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 10;
/// Seconds after its last acknowledged renewal (by its monotonic clock, from the send time) at which a runner kills its jobs.
pub const SELF_FENCE_SECONDS: u64 = 25;
/// Seconds after which the app gives a job of a silent runner away.
pub const TAKEOVER_SECONDS: u64 = 35;
/// Most bytes of one log chunk.
pub const LOG_CHUNK_BYTES: usize = 1 << 20;
/// Most bytes of one job's log.
pub const LOG_JOB_BYTES: u64 = 64 << 20;

/// The definition files at the commit, by path from the repository's root (`.rivet/ci.lua`, `.rivet/lib/x.lua`).
pub type Sources = BTreeMap<String, String>;

/// Exchanges a registration token for the runner's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// Its name; registering again under the same name with a valid token replaces the old credentials.
    pub name: String,
    /// What it can do, beside `os`, `arch` and `executor=…`, which it adds itself.
    pub labels: Vec<Label>,
    /// The executors it offers.
    pub executors: Vec<ExecutorKind>,
    /// The program's version.
    pub version: String,
}

/// A runner's credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterResponse {
    /// Its id.
    pub runner_id: String,
    /// Its token, `rvr_…`, shown once.
    pub token: String,
}

/// Where commands run.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ExecutorKind {
    /// Processes of the runner's own machine; trusted runs only.
    Host,
    /// A container a stage, through the podman (or docker) command line.
    Podman,
    /// A pod a stage.
    Kubernetes,
}

/// Asks for work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Drawn by the runner for this claim: a repeat after a lost answer gets the same jobs and epochs.
    pub claim_id: String,
    /// How many jobs it can take now.
    pub slots: u32,
    /// Seconds to wait for work, at most 25.
    pub wait_seconds: u64,
    /// What it offers now (they may change between starts).
    pub executors: Vec<ExecutorKind>,
    /// Its labels now; a label its registration did not grant is `403 runner.label`.
    pub labels: Vec<Label>,
}

/// What it got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimResponse {
    /// None, or up to `slots`.
    pub jobs: Vec<Job>,
    /// What the runner should do beside.
    #[serde(default)]
    pub command: RunnerCommand,
}

/// What the app wants of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerCommand {
    /// Nothing.
    #[default]
    None,
    /// Take no more, finish, leave.
    Drain,
    /// Take no more until told otherwise.
    Pause,
    /// The app cannot renew leases now; keep running and ask again.
    Hold,
}

/// One job: everything a runner needs, and nothing more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The fencing number of this claim.
    pub epoch: i64,
    /// The run it belongs to.
    pub run: RunInfo,
    /// The planned stage's name, with its leg.
    pub stage: String,
    /// The stage's name in the file.
    pub base: String,
    /// An attempt or a rollback.
    pub kind: JobKind,
    /// This try, from 1.
    pub attempt: u32,
    /// Tries in all.
    pub max_attempts: u32,
    /// What to do.
    pub action: Action,
    /// Values of `${…}` in `run` lines, by the variable that carries each.
    #[serde(default)]
    pub run_values: BTreeMap<String, String>,
    /// The image.
    #[serde(default)]
    pub container: Option<String>,
    /// Containers beside it.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Environment of its commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Seconds it may take; `None`: the runner's own bound.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// The file that defines it.
    pub file: String,
    /// All definition files at the commit.
    pub sources: Sources,
    /// `event`.
    pub event: EventFacts,
    /// Typed inputs.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// The leg's values.
    #[serde(default)]
    pub matrix: Map<String, Value>,
    /// State and outputs of the stages it depends on, by base name (`needs.build.outputs.version`); a matrix stage has
    /// `state` of all its legs together and `legs`, a list of `{name, matrix, state, outputs}`.
    #[serde(default)]
    pub needs: Map<String, Value>,
    /// For a rollback: what the stage returned.
    #[serde(default)]
    pub outputs: Option<Value>,
    /// The commit to check out; `None`: an empty workspace (or, locally, the working tree).
    #[serde(default)]
    pub checkout: Option<Checkout>,
    /// Secrets by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Further values to hide wherever they would be shown.
    #[serde(default)]
    pub redact: Vec<String>,
    /// Whether its code was reviewed by somebody who may write.
    pub trust: Trust,
}

/// Whether what a run executes may be trusted with what the repository owns.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Trust {
    /// From a fork, or by somebody who may not write.
    Untrusted,
    /// From the repository itself.
    Trusted,
}

/// What a job tells of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Its id.
    pub id: String,
    /// Its number in the repository.
    pub number: i64,
    /// Its page.
    pub url: String,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline's stem.
    pub pipeline: String,
}

/// An attempt of a stage, or its rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobKind {
    /// The stage itself.
    Stage,
    /// What undoes it.
    Rollback,
}

/// The commit a workspace holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkout {
    /// Where git fetches from: `https://…` or, with a local forge on the same machine, `file:///…` or its http address.
    pub url: String,
    /// The exact commit, 40 or 64 hex digits.
    pub sha: String,
    /// A read token for this one repository, sent as a one-shot header and redacted everywhere.
    #[serde(default)]
    pub token: Option<String>,
}

/// Says that the stage's code starts now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// The claim's epoch.
    pub epoch: i64,
}

/// Renews leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// The jobs it holds.
    pub jobs: Vec<HeldJob>,
    /// Jobs it could take now.
    pub free_slots: u32,
}

/// One held job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldJob {
    /// Its id.
    pub id: String,
    /// The claim's epoch.
    pub epoch: i64,
}

/// What the app answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// What each held job should do, by job id.
    pub jobs: BTreeMap<String, JobCommand>,
    /// What the runner should do.
    #[serde(default)]
    pub command: RunnerCommand,
}

/// What the app wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobCommand {
    /// Go on: the lease is renewed.
    Continue,
    /// Stop it (SIGTERM, then SIGKILL after 10 s) and finish as `cancelled`.
    Cancel,
    /// The lease is somebody else's now: kill it at once and say nothing more.
    Fenced,
}

/// How much of a log the app has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogResponse {
    /// The offset the next chunk must have.
    pub next_offset: u64,
}

/// Ends a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishRequest {
    /// The claim's epoch.
    pub epoch: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of log sent in all; fewer at the app shows the log as incomplete.
    pub log_bytes: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In one word.
    pub conclusion: Conclusion,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// What the script returned, for later stages; a table.
    #[serde(default)]
    pub outputs: Map<String, Value>,
    /// What the script wants shown on lines of the code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// A job's end in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Conclusion {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// It was told to stop.
    Cancelled,
}

/// Why a job did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobError {
    /// Which class of error, for `retry.on`.
    pub class: ErrorClass,
    /// One sentence.
    pub message: String,
    /// The command that failed, as one would type it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last lines of output, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<String>,
    /// Where in the definition it happened, `file:line`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Something to show on lines of the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Path from the repository's root.
    pub path: String,
    /// First line, from 1.
    pub line: u32,
    /// Last line.
    #[serde(default)]
    pub end_line: Option<u32>,
    /// `notice`, `warning` or `failure`.
    pub level: AnnotationLevel,
    /// A few words.
    #[serde(default)]
    pub title: Option<String>,
    /// What to say.
    pub message: String,
}

/// How loud an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AnnotationLevel {
    /// For information.
    Notice,
    /// Worth a look.
    Warning,
    /// Wrong.
    Failure,
}
