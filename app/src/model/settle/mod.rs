//! What should happen next to a run: pure, from the rows as they stand. [`settle`] applies everything that follows until
//! nothing more does, and leaves behind what only others can do: jobs for runners, questions for the evaluator, a time to
//! look again.

mod attempt;
mod forward;
mod gate;
mod reasons;
mod rollback;

use super::approval::Approval;
use super::deployment::{Environment, Freeze};
use super::ids::StageId;
use super::job::{Job, executor_of, label_set};
use super::run::Run;
use super::stage::Stage;
use super::state::{Illegal, JobState, RunEvent, RunState, StageEvent, StageState};
use super::time::Timestamp;
use crate::model::ids::JobId;
pub use attempt::{finish_attempt, lose_attempt, retryable, start_attempt};
use pipelines_spec::plan::{ErrorClass, PlannedStage};
use pipelines_spec::protocol::JobKind;
pub use rollback::next as next_rollback;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How long an open run goes without being looked at, whatever happens: no state is without an exit.
const LOOK_AGAIN_MILLIS: i64 = 60_000;
/// How long after a stage's timeout the server ends it itself, should its runner not do so.
const OVERTIME_SECONDS: i64 = 60;
/// How often the machinery may fail a stage before the stage fails.
pub const MAX_INFRA_FAULTS: i64 = 5;

/// A run with its stages and the jobs that are not over, as they stand at `now`.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The run.
    pub run: Run,
    /// Its stages in the plan's order.
    pub stages: Vec<Stage>,
    /// Its jobs that are not over, and those made here.
    pub jobs: Vec<Job>,
    /// Numbers of the runs that hold its concurrency group.
    pub blocked_by: Vec<i64>,
    /// Every decision about it, oldest first.
    pub approvals: Vec<Approval>,
    /// Whether it may run at all: trusted, or let in by somebody who may, for exactly this commit and plan.
    pub admitted: bool,
    /// The time.
    pub now: Timestamp,
    /// A number from 0 to 1, drawn by the caller, for jitter.
    pub random: f64,
    /// What the evaluator answered to earlier questions.
    pub answers: BTreeMap<StageId, Answer>,
    /// What must be asked before more can happen.
    pub asks: Vec<Ask>,
    /// What happened, for the run's history.
    pub notes: Vec<Note>,
    /// What happened in the change just saved: `notes` after they were written.
    pub happened: Vec<Note>,
    /// Stages that gave way to their legs.
    pub replaced: Vec<StageId>,
    /// The environments of its repository that are locked.
    pub locked: Vec<Environment>,
    /// Locks the environments whose deployments are undone from here on.
    pub freeze: Option<Freeze>,
    /// Jobs that were taken back before anybody had them.
    pub withdrawn: Vec<JobId>,
}

/// A question for the evaluator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// About this stage.
    pub stage: StageId,
    /// Its condition, or the values of its axes.
    pub what: AskWhat,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskWhat {
    /// Does its condition hold?
    Condition,
    /// Which legs does it have?
    Legs,
}

/// What the evaluator answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Whether the condition holds.
    Condition(bool),
    /// The legs.
    Legs(Vec<PlannedStage>),
    /// The definition failed: what is wrong.
    Broken(String),
}

/// Something that happened, for the run's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The stage it happened to.
    pub stage: Option<String>,
    /// One word: `queued`, `started`, `succeeded` …
    pub kind: String,
    /// A sentence.
    pub message: String,
}

/// Applies everything that follows from how the run stands.
///
/// # Errors
/// [`Illegal`] is a fault in these rules: the property tests look for it.
pub fn settle(graph: &mut Graph) -> Result<(), Illegal> {
    gate::judge(graph);
    loop {
        let before = graph.fingerprint();
        graph.asks.clear();
        match graph.run.state {
            RunState::Pending => forward::begin(graph)?,
            RunState::Running | RunState::Sleeping => forward::go_on(graph)?,
            RunState::RollingBack => rollback::go_on(graph)?,
            RunState::Completed | RunState::Failed | RunState::Cancelled | RunState::Diverged | RunState::Stuck => {}
        }
        if graph.fingerprint() == before {
            break;
        }
    }
    reasons::explain(graph);
    graph.set_due();
    Ok(())
}

impl Graph {
    /// What a round of [`settle`] may change.
    fn fingerprint(&self) -> (RunState, usize, usize, Vec<StageState>, Vec<(JobState, bool)>) {
        (
            self.run.state,
            self.stages.len(),
            self.jobs.len(),
            self.stages.iter().map(|stage| stage.state).collect(),
            self.jobs.iter().map(|job| (job.state, job.cancel_requested)).collect(),
        )
    }

    /// The stages that `index` waits for.
    fn needed(&self, index: usize) -> impl Iterator<Item = &Stage> {
        let bases = &self.stages[index].spec.0.stage.depends_on;
        self.stages.iter().filter(move |stage| bases.contains(&stage.base))
    }

    /// Whether all stages are over.
    fn all_over(&self) -> bool {
        self.stages.iter().all(|stage| stage.state.is_over())
    }

    /// The job of a stage that is not over.
    pub fn open_job(&self, stage: &StageId) -> Option<usize> {
        self.jobs.iter().position(|job| &job.stage_id == stage && job.state != JobState::Finished)
    }

    /// What the lock says that holds a stage of this run, where one does.
    pub fn lock_of(&self, index: usize) -> Option<String> {
        let key = self.stages[index].environment_key()?;
        self.locked.iter().find(|environment| environment.name_key == key && environment.holds(&self.run))?.lock()
    }

    /// The stage with this id.
    pub fn stage_index(&self, id: &StageId) -> Option<usize> {
        self.stages.iter().position(|stage| &stage.id == id)
    }

    /// Writes a line of history.
    pub fn note(&mut self, stage: Option<usize>, kind: &str, message: impl Into<String>) {
        let stage = stage.map(|index| self.stages[index].name.clone());
        self.notes.push(Note { stage, kind: kind.to_owned(), message: message.into() });
    }

    /// Makes the job of a stage's next attempt, claimable after `delay` milliseconds.
    fn add_job(&mut self, index: usize, kind: JobKind, attempt: i64, delay: i64) {
        let available_at = self.now.plus_millis(delay);
        let stage = &self.stages[index];
        let spec = &stage.spec.0;
        self.jobs.push(Job {
            id: JobId::generate(),
            run_id: self.run.id.clone(),
            stage_id: stage.id.clone(),
            repo_id: self.run.repo_id.clone(),
            kind: kind.to_string(),
            attempt,
            state: JobState::Queued,
            label_set: label_set(&spec.labels),
            executor: executor_of(&spec.stage),
            trust: self.run.trust.0.to_string(),
            gated: stage.needs_approval() && kind == JobKind::Stage,
            priority: i64::from(spec.stage.priority),
            available_at,
            epoch: 0,
            runner_id: None,
            claim_id: None,
            lease_until: None,
            cancel_requested: false,
            conclusion: None,
            result: None,
            log_bytes: 0,
            log_complete: true,
            created_at: self.now,
            claimed_at: None,
            started_at: None,
            finished_at: None,
            environment: stage.environment_key(),
            dirty: false,
            fresh: true,
            stored_state: None,
        });
    }

    /// `needs` as scripts and conditions see it: state and outputs by the names in the file.
    pub fn needs(&self, index: usize) -> Map<String, Value> {
        needs(&self.stages[index].spec.0.stage.depends_on, &self.stages)
    }

    /// When the server ends a running stage itself.
    fn overtime(&self, stage: &Stage) -> Option<Timestamp> {
        let seconds = i64::try_from(stage.spec.0.stage.timeout?).ok()?;
        let started = stage.started_at?;
        Some(started.plus_millis(seconds.saturating_add(OVERTIME_SECONDS).saturating_mul(1000)))
    }

    /// When somebody should look again although nothing happened.
    fn set_due(&mut self) {
        let due = if self.run.state.is_over() {
            None
        } else {
            let timers = self.stages.iter().filter_map(|stage| match stage.state {
                StageState::AwaitingApproval => stage.expires_at,
                StageState::Running => self.overtime(stage),
                StageState::Pending
                | StageState::Queued
                | StageState::Sleeping
                | StageState::Succeeded
                | StageState::Failed
                | StageState::Skipped
                | StageState::Cancelled
                | StageState::RollingBack
                | StageState::RolledBack => None,
            });
            let again = self.now.plus_millis(LOOK_AGAIN_MILLIS);
            timers.chain(self.run.deadline_at).chain([again]).min()
        };
        if self.run.due_at != due {
            self.run.due_at = due;
            self.run.dirty = true;
        }
    }
}

/// State and outputs of the stages called `bases`, by these names.
pub fn needs(bases: &[String], stages: &[Stage]) -> Map<String, Value> {
    let legs = |base: &String| stages.iter().filter(|stage| &stage.base == base).collect::<Vec<&Stage>>();
    bases.iter().map(|base| (base.clone(), need(&legs(base)))).collect()
}

fn need(legs: &[&Stage]) -> Value {
    let outputs = |stage: &Stage| stage.outputs.as_ref().map_or_else(|| json!({}), |outputs| outputs.0.clone());
    if let [only] = legs
        && only.spec.0.matrix.is_empty()
    {
        return json!({ "state": only.state, "outputs": outputs(only) });
    }
    // Of all legs together: the worst one counts.
    let order = [StageState::Failed, StageState::RolledBack, StageState::Cancelled, StageState::Skipped];
    let state = order
        .into_iter()
        .find(|state| legs.iter().any(|leg| leg.state == *state))
        .unwrap_or_else(|| legs.first().map_or(StageState::Skipped, |leg| leg.state));
    let list: Vec<Value> = legs
        .iter()
        .map(
            |leg| json!({ "name": leg.name, "matrix": leg.spec.0.matrix, "state": leg.state, "outputs": outputs(leg) }),
        )
        .collect();
    // One leg's outputs stand for all where only one leg has a key; a later leg wins otherwise.
    let mut merged = Map::new();
    for leg in legs {
        if let Value::Object(map) = outputs(leg) {
            merged.extend(map);
        }
    }
    json!({ "state": state, "outputs": merged, "legs": list })
}

/// Ends everything that has not ended: what no runner holds at once, the rest by telling its runner.
pub(super) fn stop(graph: &mut Graph, indexes: &[usize], reason: &str) -> Result<(), Illegal> {
    for &index in indexes {
        if graph.stages[index].state.is_over() || graph.stages[index].state == StageState::RollingBack {
            continue;
        }
        let held = match graph.open_job(&graph.stages[index].id.clone()) {
            Some(job) => !stop_job(&mut graph.jobs[job], graph.now),
            None => false,
        };
        if !held {
            let now = graph.now;
            graph.stages[index].fail_with(StageEvent::Cancel, ErrorClass::Cancelled, reason, now)?;
            graph.note(Some(index), "cancelled", reason);
        }
    }
    Ok(())
}

/// Ends a job nobody holds and answers true; asks its runner to end it otherwise.
fn stop_job(job: &mut Job, now: Timestamp) -> bool {
    match job.state {
        JobState::Queued => {
            job.finish("cancelled", now);
            true
        }
        JobState::Claimed | JobState::Running => {
            if !job.cancel_requested {
                job.cancel_requested = true;
                job.dirty = true;
            }
            false
        }
        JobState::Finished => true,
    }
}

/// Ends the run.
pub(super) fn end(graph: &mut Graph, event: RunEvent, reason: &str) -> Result<(), Illegal> {
    let over = graph.run.state.is_over();
    graph.run.apply(event, reason)?;
    if !over && graph.run.state.is_over() {
        graph.run.finished_at = Some(graph.now);
        graph.run.dirty = true;
        let word = graph.run.state.to_string();
        graph.note(None, &word, reason);
    }
    Ok(())
}
