//! What the forge should show of a run: pure functions from stored rows to check runs and commit statuses.

use crate::forge::markdown::{SUMMARY_BYTES, fenced, one_line, sentence};
use crate::forge::{CheckButton, CheckRun, CommitStatus};
use crate::model::ids::RunId;
use crate::model::stage::Stage;
use crate::model::state::{RunState, StageState};
use crate::model::time::Timestamp;
use crate::store::reports::{MAX_ANNOTATIONS, StageTry, StatusState, commit_status};
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Annotation, AnnotationLevel, JobError};

/// Characters of a check run's title.
const TITLE_CHARS: usize = 120;
/// Bytes of a reason in a summary; the run's page has all of it.
const REASON_BYTES: usize = 4_000;
/// Bytes of a log's tail in a summary.
const TAIL_BYTES: usize = 16_000;

/// The little of a run that is shown with each of its stages.
pub(super) struct RunFacts {
    pub(super) id: RunId,
    pub(super) number: i64,
    pub(super) pipeline: String,
    pub(super) sha: String,
    pub(super) state: RunState,
    pub(super) reason: String,
    pub(super) url: String,
    /// Whether it makes an earlier deployment again.
    pub(super) rollback: bool,
}

/// A state of a check run, in GitHub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    InProgress,
    Completed(&'static str),
}

fn phase(state: StageState, error: Option<&JobError>) -> Phase {
    match state {
        // A stage that waits for people stays queued: as a conclusion, `action_required` could not be taken back.
        StageState::Pending | StageState::Queued | StageState::AwaitingApproval => Phase::Queued,
        StageState::Running | StageState::Sleeping => Phase::InProgress,
        StageState::Succeeded => Phase::Completed("success"),
        StageState::Failed if error.is_some_and(|e| e.class == ErrorClass::Timeout) => Phase::Completed("timed_out"),
        // What was undone must not let a merge pass, as `neutral` would.
        StageState::Failed | StageState::RollingBack | StageState::RolledBack => Phase::Completed("failure"),
        StageState::Skipped => Phase::Completed("skipped"),
        StageState::Cancelled => Phase::Completed("cancelled"),
    }
}

/// `PIPELINE / STAGE`. A rollback's check run has a name of its own: what is required for a merge is not passed by it.
fn name(run: &RunFacts, stage: &Stage) -> String {
    let again = if run.rollback { " (rollback)" } else { "" };
    format!("{} / {}{again}", run.pipeline, stage.name)
}

/// The page of a stage.
pub(super) fn stage_url(run: &RunFacts, stage: &Stage) -> String {
    format!("{}/stages/{}", run.url, crate::http::api::shapes::path_segment(&stage.name))
}

/// `RUN:STAGE:ATTEMPT`.
pub(super) fn external_id(run: &RunId, stage: &Stage, attempt: i64) -> String {
    format!("{run}:{}:{attempt}", stage.name)
}

/// The check run of a stage's current (or first) attempt.
pub(super) fn stage_check(run: &RunFacts, stage: &Stage, attempt: i64) -> CheckRun {
    let error = stage.error.as_ref().map(|error| &error.0);
    let phase = phase(stage.state, error);
    let over = matches!(phase, Phase::Completed(_));
    let notes = Notes::of(stage.annotations.as_ref().map(|list| list.0.as_slice()).unwrap_or_default());
    CheckRun {
        name: name(run, stage),
        head_sha: run.sha.clone(),
        external_id: external_id(&run.id, stage, attempt),
        details_url: details_url(run, stage),
        status: status_word(phase).to_owned(),
        conclusion: conclusion_word(phase),
        started_at: stage.started_at.filter(|_| phase != Phase::Queued),
        completed_at: stage.finished_at.filter(|_| over),
        title: one_line(title(run, stage), TITLE_CHARS),
        summary: summary(run, stage, attempt, error.filter(|_| over), &notes),
        annotations: notes.shown,
        actions: buttons(stage.state),
    }
}

/// The check run of an attempt that was followed by another one.
pub(super) fn past_check(run: &RunFacts, stage: &Stage, past: &StageTry) -> CheckRun {
    let error = past.error();
    let phase = match past.conclusion.as_deref() {
        Some("succeeded") => Phase::Completed("success"),
        Some("cancelled") => Phase::Completed("cancelled"),
        _ => Phase::Completed("failure"),
    };
    let why = error.as_ref().map_or("It did not end by itself.", |error| error.message.as_str());
    let mut summary = format!("**Attempt {} ended**; attempt {} follows.", past.attempt, past.attempt + 1);
    summary.push_str(&timing(Some(past.created_at), past.started_at, past.finished_at));
    failure(&mut summary, error.as_ref(), &stage_url(run, stage));
    CheckRun {
        name: name(run, stage),
        head_sha: run.sha.clone(),
        external_id: external_id(&run.id, stage, past.attempt),
        details_url: details_url(run, stage),
        status: status_word(phase).to_owned(),
        conclusion: conclusion_word(phase),
        started_at: past.started_at,
        completed_at: past.finished_at,
        title: one_line(&format!("Attempt {}: {why} It was tried again", past.attempt), TITLE_CHARS),
        summary,
        annotations: vec![],
        actions: vec![],
    }
}

/// The status `rivet/PIPELINE`: what branch protection should require.
pub(super) fn run_status(run: &RunFacts, stages: &[Stage]) -> CommitStatus {
    let state = match run.state {
        RunState::Pending | RunState::Running | RunState::Sleeping | RunState::RollingBack => StatusState::Pending,
        RunState::Completed => StatusState::Success,
        RunState::Failed => StatusState::Failure,
        RunState::Cancelled | RunState::Diverged | RunState::Stuck => StatusState::Error,
    };
    // While it runs only what people must do is said: every change of the text costs a call.
    let description = match state {
        StatusState::Pending => match stages.iter().find(|stage| stage.state == StageState::AwaitingApproval) {
            Some(waiting) => waiting.reason.clone(),
            None => format!("Run {} has not ended yet", run.number),
        },
        StatusState::Success | StatusState::Failure | StatusState::Error => run.reason.clone(),
    };
    commit_status(&run.pipeline, state, &description, &run.url)
}

/// The same of a run whose stages were all skipped, and whose change edits what made them skip: it must not let itself pass.
pub(super) fn unproven_status(run: &RunFacts) -> CommitStatus {
    let why = "Every stage was skipped, and this change edits the pipeline: that proves nothing";
    commit_status(&run.pipeline, StatusState::Error, why, &run.url)
}

fn status_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::InProgress => "in_progress",
        Phase::Completed(_) => "completed",
    }
}

fn conclusion_word(phase: Phase) -> Option<String> {
    match phase {
        Phase::Completed(word) => Some(word.to_owned()),
        Phase::Queued | Phase::InProgress => None,
    }
}

fn details_url(run: &RunFacts, stage: &Stage) -> String {
    let name: String = url::form_urlencoded::byte_serialize(stage.name.as_bytes()).collect();
    format!("{}#stage-{}", run.url, name.replace('+', "%20"))
}

fn title<'a>(run: &'a RunFacts, stage: &'a Stage) -> &'a str {
    match stage.reason.trim_end_matches('.') {
        "" => run.reason.trim_end_matches('.'),
        reason => reason,
    }
}

/// The notes on lines that are shown, and how many there are.
struct Notes {
    shown: Vec<Annotation>,
    all: usize,
}

impl Notes {
    /// The gravest first, and those equally grave in the script's own order: what is cut off matters least.
    fn of(all: &[Annotation]) -> Self {
        let mut shown: Vec<Annotation> = all.iter().filter(|note| is_shown(note)).cloned().collect();
        shown.sort_by_key(|note| match note.level {
            AnnotationLevel::Failure => 0,
            AnnotationLevel::Warning => 1,
            AnnotationLevel::Notice => 2,
        });
        let all = shown.len();
        shown.truncate(MAX_ANNOTATIONS);
        Self { shown, all }
    }

    /// That some are not shown, and where they are.
    fn rest(&self, url: &str) -> String {
        match self.all - self.shown.len() {
            0 => String::new(),
            left => format!(
                "\n\n{} of {} notes are shown here, the gravest first; [the other {left} too]({url}).",
                self.shown.len(),
                self.all
            ),
        }
    }
}

fn is_shown(note: &Annotation) -> bool {
    let path = note.path.trim_start_matches("./");
    !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

fn buttons(state: StageState) -> Vec<CheckButton> {
    let button = |label: &str, description: &str, identifier: &str| CheckButton {
        label: label.to_owned(),
        description: description.to_owned(),
        identifier: identifier.to_owned(),
    };
    let cancel = || button("Cancel", "End this run", "cancel");
    match state {
        StageState::AwaitingApproval => vec![
            button("Approve", "Let this stage run", "approve"),
            button("Reject", "Do not let this stage run", "reject"),
            cancel(),
        ],
        StageState::Pending | StageState::Queued | StageState::Running | StageState::Sleeping => vec![cancel()],
        StageState::Failed | StageState::Cancelled => vec![button("Retry", "Try the failed stages again", "retry")],
        StageState::Succeeded | StageState::Skipped | StageState::RollingBack | StageState::RolledBack => vec![],
    }
}

fn summary(run: &RunFacts, stage: &Stage, attempt: i64, error: Option<&JobError>, notes: &Notes) -> String {
    let mut text = sentence(cut(&stage.reason, REASON_BYTES));
    text.push_str(&timing(stage.queued_at, stage.started_at, stage.finished_at));
    if stage.max_attempts > 1 || attempt > 1 {
        text.push_str(&format!("\n\nAttempt {attempt} of {}.", stage.max_attempts.max(attempt)));
    }
    let url = stage_url(run, stage);
    failure(&mut text, error, &url);
    text.push_str(&notes.rest(&url));
    // Each part has its own bound; together they stay below GitHub's, and nothing is cut here but in an emergency.
    let link = format!("\n\n[Run {} of {}]({})", run.number, sentence(cut(&run.pipeline, 200)), run.url);
    text.truncate(text.floor_char_boundary(SUMMARY_BYTES - link.len()));
    text + &link
}

/// At most `limit` bytes, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn timing(queued: Option<Timestamp>, started: Option<Timestamp>, finished: Option<Timestamp>) -> String {
    let span = |from: Option<Timestamp>, to: Option<Timestamp>| Some(duration(to?.since(from?)));
    match (span(queued, started), span(started, finished)) {
        (Some(waited), Some(ran)) => format!("\n\nWaited {waited}, ran {ran}."),
        (Some(waited), None) => format!("\n\nWaited {waited}."),
        (None, Some(ran)) => format!("\n\nRan {ran}."),
        (None, None) => String::new(),
    }
}

fn failure(text: &mut String, error: Option<&JobError>, url: &str) {
    let Some(error) = error else { return };
    if !error.message.is_empty() {
        text.push_str("\n\n");
        text.push_str(&fenced(&error.message, 4_000));
    }
    if let Some(at) = &error.at {
        text.push_str(&format!("\n\nIn {}.", sentence(cut(at, 1_000))));
    }
    if let Some(command) = &error.command {
        let code = error.exit_code.map(|code| format!(" ended with {code}")).unwrap_or_default();
        text.push_str(&format!("\n\nThe command{code}:\n\n{}", fenced(command, 4_000)));
    }
    if let Some(tail) = error.tail.as_ref().filter(|tail| !tail.trim().is_empty()) {
        text.push_str(&format!("\n\nThe end of [its log]({url}):\n\n{}", fenced(tail, TAIL_BYTES)));
    }
}

/// `850 ms`, `12 s`, `3 min 5 s`, `2 h 10 min`.
fn duration(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0 => format!("{} ms", millis.max(0)),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
