//! Runs and stages as pages show them: cleaned, worded, measured.

use super::status::Status;
use super::text::{Moment, clean, duration, short_sha};
use crate::http::api::shapes::{Run, Stage, path_segment};
use crate::model::time::Timestamp;
use crate::store::views::RunView;

/// A run in a list.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named after what the page shows")]
pub struct RunRow {
    pub href: String,
    pub number: i64,
    pub title: String,
    pub repo: String,
    pub pipeline: String,
    pub event: &'static str,
    pub branch: String,
    pub pull_request: Option<i64>,
    pub sha: String,
    pub actor: String,
    pub status: Status,
    pub reason: String,
    pub created: Moment,
    pub took: String,
    pub waited: String,
}

impl RunRow {
    /// The row of `run` as seen `now`.
    pub fn new(run: &RunView, now: Timestamp) -> Self {
        let title = if run.title.is_empty() { &run.name } else { &run.title };
        Self {
            href: format!("/runs/{}", run.id),
            number: run.number,
            title: clean(title),
            repo: clean(&run.repo()),
            pipeline: clean(&run.pipeline),
            event: event_word(&run.event),
            branch: branch_of(run.branch.as_deref(), &run.git_ref),
            pull_request: run.pull_request,
            sha: short_sha(&run.sha),
            actor: clean(&run.actor),
            status: Status::of(&run.state),
            reason: clean(&run.reason),
            created: Moment::new(run.created_at, now),
            took: took(run.started_at, run.finished_at, now),
            waited: run.started_at.map(|start| duration(start.since(run.created_at))).unwrap_or_default(),
        }
    }
}

/// What started a run, in words.
pub fn event_word(event: &str) -> &'static str {
    match event {
        "push" => "push",
        "pull_request" => "pull request",
        "merge_group" => "merge queue",
        "comment" => "comment",
        "schedule" => "schedule",
        "manual" => "launched",
        "repository_dispatch" => "dispatch",
        "pipeline" => "pipeline",
        _ => "event",
    }
}

/// The short name of what was pushed to.
pub fn branch_of(branch: Option<&str>, git_ref: &str) -> String {
    let short = branch.unwrap_or_else(|| {
        let prefixes = ["refs/heads/", "refs/tags/", "refs/"];
        prefixes.iter().find_map(|prefix| git_ref.strip_prefix(prefix)).unwrap_or(git_ref)
    });
    clean(short)
}

/// How long it took, or takes so far; empty where it has not begun.
pub fn took(started: Option<Timestamp>, finished: Option<Timestamp>, now: Timestamp) -> String {
    started.map(|start| duration(finished.unwrap_or(now).since(start))).unwrap_or_default()
}

/// A stage in the table of a run.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named after what the page shows")]
pub struct StageRow {
    pub href: String,
    /// Where the graph's box of several legs leads.
    pub anchor: Option<String>,
    pub name: String,
    pub status: Status,
    pub reason: String,
    pub attempts: String,
    pub container: String,
    pub labels: String,
    pub took: String,
    pub waited: String,
    pub awaits: bool,
    /// The page of its gate.
    pub gate: String,
    /// As it is sent back by forms.
    pub value: String,
}

impl StageRow {
    /// The rows of a run's stages.
    pub fn all(run: &Run, now: Timestamp) -> Vec<Self> {
        let mut seen = std::collections::BTreeSet::new();
        run.stages
            .iter()
            .map(|stage| {
                let mut row = Self::new(run, stage, now);
                row.anchor = seen.insert(&stage.base).then(|| format!("stage-{}", clean(&stage.base)));
                row
            })
            .collect()
    }

    fn new(run: &Run, stage: &Stage, now: Timestamp) -> Self {
        let attempts = if stage.attempt > 1 || (stage.max_attempts > 1 && stage.attempt > 0) {
            format!("{} of {}", stage.attempt, stage.max_attempts)
        } else {
            String::new()
        };
        let waited = stage.queued_at.map(|queued| duration(stage.started_at.unwrap_or(now).since(queued)));
        let ended = stage.finished_at.is_some() && stage.started_at.is_none();
        Self {
            href: format!("/runs/{}/stages/{}", run.id, path_segment(&stage.name)),
            anchor: None,
            name: clean(&stage.name),
            status: Status::of(&stage.state),
            reason: clean(&stage.reason),
            attempts,
            container: clean(stage.container.as_deref().unwrap_or("")),
            labels: clean(&stage.labels.join(" ")),
            took: took(stage.started_at, stage.finished_at, now),
            waited: waited.filter(|_| !ended).unwrap_or_default(),
            awaits: stage.state == "awaiting_approval",
            gate: format!("/runs/{}/gates/{}", run.id, path_segment(&stage.name)),
            value: stage.name.clone(),
        }
    }
}

/// A stage that went wrong, with what there is to know of it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named after what the page shows")]
pub struct Failure {
    pub href: String,
    pub name: String,
    pub class: String,
    pub message: String,
    pub command: String,
    pub at: String,
    /// The last lines of output, rendered.
    pub tail: String,
}

impl Failure {
    /// Every failed stage of a run.
    pub fn all(run: &Run) -> Vec<Self> {
        let failed = |stage: &&Stage| stage.state == "failed" || (stage.error.is_some() && stage.state == "running");
        run.stages.iter().filter(failed).filter_map(|stage| Self::new(run, stage)).collect()
    }

    fn new(run: &Run, stage: &Stage) -> Option<Self> {
        let error = stage.error.as_ref()?;
        let mut renderer = super::ansi::Renderer::default();
        let tail = error.tail.as_deref().unwrap_or("");
        let tail: Vec<String> = tail.lines().map(|line| renderer.line(line.as_bytes()).0).collect();
        Some(Self {
            href: format!("/runs/{}/stages/{}", run.id, path_segment(&stage.name)),
            name: clean(&stage.name),
            class: error.class.to_string(),
            message: clean(&error.message),
            command: clean(error.command.as_deref().unwrap_or("")),
            at: clean(error.at.as_deref().unwrap_or("")),
            tail: tail.join("\n"),
        })
    }
}
