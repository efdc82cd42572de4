//! The API's JSON. Names and shapes are promises to clients: they are added to and never changed.

use crate::context::Context;
use crate::model::time::Timestamp;
use crate::store::views::{RunView, StageView};
use pipelines_spec::protocol::JobError;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; `null` where there is none.
    pub next_cursor: Option<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its number in the repository.
    pub number: i64,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline's stem.
    pub pipeline: String,
    /// The pipeline's name for people.
    pub name: String,
    /// What kind of event started it.
    pub event: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The branch's short name.
    pub branch: Option<String>,
    /// The commit.
    pub sha: String,
    /// The test merge of a pull request that is built in its place; it is reported on `sha`.
    pub merge_sha: Option<String>,
    /// The first line of the commit's message.
    pub title: String,
    /// The pull request's number.
    pub pull_request: Option<i64>,
    /// Who caused it.
    pub actor: String,
    /// `trusted`, or `untrusted` for a fork's change.
    pub trust: String,
    /// Why it is not trusted, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_reason: Option<String>,
    /// The typed inputs; secret ones are hidden.
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Where it stands.
    pub state: String,
    /// Why it stands there and what moves it on, in one sentence.
    pub reason: String,
    /// Its stages in the plan's order.
    pub stages: Vec<Stage>,
    /// The run this one repeats.
    pub rerun_of: Option<String>,
    /// Digest of the plan: what an approval is bound to.
    pub plan_digest: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its first stage started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Its page.
    pub url: String,
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Stage {
    /// Its name; a matrix leg's has its values.
    pub name: String,
    /// Its name in the file.
    pub base: String,
    /// The leg's values.
    #[schema(value_type = Object)]
    pub matrix: Map<String, Value>,
    /// Where it stands.
    pub state: String,
    /// Why, and what moves it on, in one sentence.
    pub reason: String,
    /// The current or last try, from 1; 0 before the first.
    pub attempt: i64,
    /// Tries in all.
    pub max_attempts: i64,
    /// The stages it waits for, by their names in the file.
    pub depends_on: Vec<String>,
    /// The image its commands run in.
    pub container: Option<String>,
    /// What a runner must offer, each `key=value`.
    pub labels: Vec<String>,
    /// The environment it deploys to.
    pub environment: Option<String>,
    /// Where its rollback stands.
    pub rollback: Option<String>,
    /// The run it started as a child.
    pub child_run: Option<String>,
    /// When a runner could first have taken it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub queued_at: Option<Timestamp>,
    /// When its code started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it did not succeed: `class`, `message`, and where known `command`, `exit_code`, `tail`, `at`.
    #[schema(value_type = Option<StageError>)]
    pub error: Option<JobError>,
    /// What its script returned.
    #[schema(value_type = Option<Object>)]
    pub outputs: Option<Value>,
    /// Its page.
    pub url: String,
}

/// Why a stage did not succeed. Only described here; what is sent is the protocol's own type.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub struct StageError {
    /// The class `retry.on` matches.
    class: String,
    /// One sentence.
    message: String,
    /// The command that failed.
    command: Option<String>,
    /// Its exit code.
    exit_code: Option<i32>,
    /// The last lines of output.
    tail: Option<String>,
    /// Where in the definition, `file:line`.
    at: Option<String>,
}

impl Run {
    /// The shape of a run and its stages.
    pub fn new(context: &Context, run: &RunView, stages: &[StageView]) -> Self {
        let url = context.run_url(&run.id);
        Self {
            number: run.number,
            repo: run.repo(),
            pipeline: run.pipeline.clone(),
            name: run.name.clone(),
            event: run.event.clone(),
            git_ref: run.git_ref.clone(),
            branch: run.branch.clone(),
            sha: run.sha.clone(),
            merge_sha: run.plan.0.merge.as_ref().map(|merge| merge.merge.clone()),
            title: run.title.clone(),
            pull_request: run.pull_request,
            actor: run.actor.clone(),
            trust: run.trust.clone(),
            trust_reason: run.trust_reason.clone(),
            inputs: run.shown_inputs(),
            state: run.state.clone(),
            reason: run.reason.clone(),
            stages: stages.iter().map(|stage| Stage::new(&url, stage)).collect(),
            rerun_of: run.rerun_of.as_ref().map(ToString::to_string),
            plan_digest: run.plan_digest.clone(),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            id: run.id.0.clone(),
            url,
        }
    }
}

impl Stage {
    /// The shape of a stage of the run whose page is `run_url`.
    pub fn new(run_url: &str, stage: &StageView) -> Self {
        let spec = &stage.spec.0;
        Self {
            name: stage.name.clone(),
            base: stage.base.clone(),
            matrix: spec.matrix.clone(),
            state: stage.state.clone(),
            reason: stage.reason.clone(),
            attempt: stage.attempt,
            max_attempts: stage.max_attempts,
            depends_on: spec.stage.depends_on.clone(),
            container: spec.stage.container.clone(),
            labels: spec.labels.iter().map(ToString::to_string).collect(),
            environment: spec.stage.environment.clone(),
            rollback: stage.rollback_state.clone(),
            child_run: stage.child_run_id.as_ref().map(ToString::to_string),
            queued_at: stage.queued_at,
            started_at: stage.started_at,
            finished_at: stage.finished_at,
            error: stage.error.as_ref().map(|error| error.0.clone()),
            outputs: stage.outputs.as_ref().map(|outputs| outputs.0.clone()),
            url: format!("{run_url}/stages/{}", path_segment(&stage.name)),
        }
    }
}

/// One segment of a path: everything but letters, digits and `-_.~` is percent-encoded, so no name can leave its place.
pub fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}
