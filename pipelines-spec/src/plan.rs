//! The two models everything else speaks of: a [`Pipeline`] is what one file defines, a [`Plan`] is that pipeline made
//! concrete for one event and its inputs. Both are plain data with one canonical JSON form, so both can be hashed.

use crate::problem::Location;
use crate::trigger::Triggers;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What one file under `.rivet/` defines, whichever language it is written in. Strings may still hold `${…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The file's stem: the name the pipeline is known by everywhere.
    pub stem: String,
    /// The file it came from, from the repository's root.
    pub file: String,
    /// What people read; the stem where the file says nothing.
    pub name: String,
    /// One or more sentences for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What starts it.
    #[serde(default)]
    pub on: Triggers,
    /// Which other runs it waits for or cancels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Typed inputs by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, InputSpec>,
    /// Labels a runner must have to claim any stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runner: Vec<Label>,
    /// Tags from the builder's `tag`: capabilities asked of a runner, matched like labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Label>,
    /// Environment variables of every stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Seconds the whole run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// The stages in the order of the file (TOML: by position in the file).
    pub stages: Vec<Stage>,
}

/// One stage as written, before its matrix is expanded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
    pub name: String,
    /// Names of the stages it waits for (already filled in where the file's order decides).
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What it does.
    pub action: Action,
    /// The image its commands run in; `None`: the runner's default for its executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When it runs; `None`: when all it depends on succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Its legs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// When a failed attempt is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Seconds one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Environment variables of its commands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Names of the secrets it may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The environment it deploys to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Who must say yes before it may be claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// Containers that run beside it, by the name they are reached by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// Labels a runner must have, beside the pipeline's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runner: Vec<Label>,
    /// Higher is claimed first; 0 where unsaid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Where the file defines it. Not part of any digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// What a stage (or a rollback) does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// A Lua function in the definition's file, found again by the stage's name on the runner.
    Script,
    /// Shell lines, each its own `sh -c`, stopping at the first that fails.
    Run {
        /// The lines.
        run: Vec<String>,
    },
    /// Another pipeline of the repository, as a child run.
    Pipeline {
        /// Its stem.
        pipeline: String,
        /// The inputs it is given; strings may hold `${…}`.
        #[serde(default)]
        inputs: Map<String, Value>,
    },
}

/// When a stage runs, evaluated when everything it depends on has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Condition {
    /// A Lua function in the file.
    Function,
    /// A Lua expression (TOML's `if`).
    Expression {
        /// The expression.
        expression: String,
    },
}

/// The axes a stage is multiplied by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Axes by name.
    pub axes: BTreeMap<String, Axis>,
    /// Further legs, or further values for legs that match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<BTreeMap<String, Value>>,
    /// Legs to leave out: every leg that has all these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<BTreeMap<String, Value>>,
    /// At most so many legs at once; `None`: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// Whether the first failed leg cancels the others.
    #[serde(default = "yes")]
    pub fail_fast: bool,
}

fn yes() -> bool {
    true
}

/// One axis of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Axis {
    /// Values written in the file: strings, numbers or bools.
    Values {
        /// The values in the file's order.
        values: Vec<Value>,
    },
    /// A Lua function of `needs`, evaluated when the stage becomes ready.
    Function,
}

/// When a failed attempt is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all, the first one counted.
    pub max_attempts: u32,
    /// Error classes to retry; empty: everything but `cancelled`, `rejected` and `definition_error`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<ErrorClass>,
    /// How long to wait before the next one.
    #[serde(default)]
    pub backoff: Backoff,
}

/// A delay before attempt n is `min(max, initial * factor^(n-2))`, spread by `jitter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Seconds before the second attempt.
    pub initial: f64,
    /// What each further delay is multiplied by.
    pub factor: f64,
    /// The longest delay in seconds.
    pub max: f64,
    /// Share of the delay that is drawn at random around it, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: 1.0, factor: 2.0, max: 300.0, jitter: 0.2 }
    }
}

/// Why an attempt ended badly: what `retry.on` matches (interfaces: error classes).
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
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ErrorClass {
    /// The stage's Lua raised an error.
    ScriptError,
    /// A command ended with another code than 0.
    CommandFailed,
    /// A time limit passed.
    Timeout,
    /// The machinery failed: an image could not be pulled, a disk was full, git did not answer.
    InfraError,
    /// The runner was not heard of again.
    LostRunner,
    /// Somebody cancelled it.
    Cancelled,
    /// A reviewer rejected it.
    Rejected,
    /// The definition is wrong.
    DefinitionError,
    /// A limit of Rivet was reached.
    Limit,
}

/// Who must agree before a stage may be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether it is needed at all.
    pub required: bool,
    /// Logins, `@org/team`s, or groups of the server's settings; empty: anyone who may write.
    #[serde(default)]
    pub reviewers: Vec<String>,
    /// Further reviewers, of whom an approver must be one too: what the default branch's policy asks of a protected
    /// environment. Files cannot write it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_reviewers: Vec<String>,
    /// How many different people.
    pub count: u32,
    /// Whether who caused the run may not approve it.
    pub prevent_self: bool,
    /// Seconds until the gate closes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// What undoes a stage that succeeded, or that failed half-way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// What it does; never a child pipeline.
    pub action: Action,
    /// Seconds it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Its own retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A container that runs beside a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its image.
    pub image: String,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its command; empty: the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How to tell that it is ready: a command run inside it until it ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}

/// A readiness probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The command.
    pub command: Vec<String>,
    /// Seconds between tries.
    pub interval: f64,
    /// Seconds until it counts as failed.
    pub timeout: f64,
}

/// What a runner can do, as `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Such as `os`.
    pub key: String,
    /// Such as `linux`.
    pub value: String,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// How runs of one group share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The group's name; may hold `${…}`.
    pub group: String,
    /// Whether a newer run cancels the older ones; otherwise it queues behind them.
    #[serde(default)]
    pub cancel_in_progress: bool,
}

/// One typed input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// The type of an array's items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<InputType>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether a launch must give it: true where there is no default, unless said otherwise.
    pub required: bool,
    /// The values it may have; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Value>,
    /// Least number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A Lua pattern the text must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Fewest items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u32>,
    /// Most items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u32>,
    /// Whether the file has a `validate` function for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
    /// Whether its value is hidden wherever it is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// The type of an input.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum InputType {
    /// Text.
    String,
    /// A number.
    Number,
    /// Yes or no.
    Bool,
    /// A list.
    Array,
}

/// One pipeline made concrete for one event and its inputs: what a run does, and what an approval is bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline's stem.
    pub pipeline: String,
    /// Its file.
    pub file: String,
    /// Its name for people.
    pub name: String,
    /// The typed inputs, defaults filled in.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// Names of inputs whose values are hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_inputs: Vec<String>,
    /// The test merge it is made from and builds; none where the event's own commit is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeCommit>,
    /// The concurrency group, expanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Seconds the run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// The stages, each matrix leg one of its own.
    pub stages: Vec<PlannedStage>,
}

/// The commits of a pull request's test merge: part of the plan, so that an approval is of exactly these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeCommit {
    /// The head, which is reported on.
    pub head: String,
    /// The base it was merged into.
    pub base: String,
    /// The merge, which is built.
    pub merge: String,
}

/// One node of a plan's graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// Its own name; a leg's is `test (db=sqlite, os=linux)`.
    pub name: String,
    /// The name of the stage in the file: the same for all legs, and what `depends_on` names.
    pub base: String,
    /// The leg's values; empty where there is no matrix.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub matrix: Map<String, Value>,
    /// Where an axis is a function, the matrix that becomes legs when the stage is ready; this node then only stands for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<Matrix>,
    /// At most so many legs of `base` at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// Whether a failed leg cancels the other legs of `base`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_fast: bool,
    /// The labels a runner must have: pipeline's, tags and stage's together, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// The stage with every `${…}` expanded but those inside `run` lines, whose values travel in `run_values`.
    pub stage: Stage,
    /// The values `${…}` in `run` lines stand for, by the environment variable that carries each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub run_values: BTreeMap<String, String>,
}

/// The SHA-256 of a value's canonical JSON (keys sorted, no white space), as 64 hex digits.
pub fn digest<T: Serialize>(value: &T) -> String {
    // `serde_json::Value` keeps its maps sorted by key, which makes the text canonical.
    let canonical = serde_json::to_value(value).map(|v| v.to_string()).unwrap_or_default();
    hex::encode(Sha256::digest(canonical.as_bytes()))
}

impl Plan {
    /// What an approval is bound to: the digest of everything but source locations.
    pub fn digest(&self) -> String {
        let mut plan = self.clone();
        for planned in &mut plan.stages {
            planned.stage.at = None;
        }
        digest(&plan)
    }
}
