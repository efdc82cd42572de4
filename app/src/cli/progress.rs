//! Shows a run as it goes: on a terminal lines that live while stages run, elsewhere one plain line a change.

use super::client::{Run, Stage};
use super::output::{clean, clean_log, colour, duration, sign};
use crate::model::time::Timestamp;
use console::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::time::Duration;

/// A stage that waits for a runner says so only when it waits noticeably.
const QUEUED_WORTH_SAYING: i64 = 2_000;
/// Lines of a failed stage's log that are shown without being asked for.
pub const TAIL_LINES: usize = 50;

/// What was shown of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    state: String,
    attempt: i64,
    reason: String,
    since: Timestamp,
    said: bool,
}

/// Shows one run on stderr.
pub struct Progress {
    live: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
    shown: BTreeMap<String, Shown>,
}

/// The last lines of a failed stage's log.
pub struct Tail {
    /// The stage.
    pub stage: String,
    /// The lines.
    pub lines: Vec<String>,
    /// The command that shows all of it, where there is one.
    pub more: Option<String>,
}

impl Progress {
    /// Shows on this terminal, or plainly where stderr is none.
    pub fn new() -> Self {
        let live =
            super::output::is_live().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { live, bars: BTreeMap::new(), shown: BTreeMap::new() }
    }

    /// Shows what is new in `run`.
    pub fn update(&mut self, run: &Run, now: Timestamp) {
        for stage in &run.stages {
            if let Some(line) = self.note(stage, now) {
                self.say(&line);
            }
            self.draw(stage, now);
        }
    }

    /// Says a line above what is animated.
    pub fn say(&self, line: &str) {
        match &self.live {
            // Printing through the bars keeps them whole.
            Some(live) => live.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows lines of a stage's own output as data, on stdout.
    pub fn output(&self, text: &str) {
        match &self.live {
            Some(live) => live.suspend(|| super::output::print_data(text)),
            None => super::output::print_data(text),
        }
    }

    /// Ends the animation and sums up.
    pub fn finish(&mut self, run: &Run, tails: &[Tail], now: Timestamp) {
        self.clear();
        for tail in tails {
            if let Some(stage) = run.stages.iter().find(|s| s.name == tail.stage) {
                eprint!("{}", failure(stage, tail));
            }
        }
        eprintln!("{}", summary(run, now));
    }

    /// Takes everything animated away.
    pub fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.bars) {
            bar.finish_and_clear();
        }
    }

    /// The line to say about a stage, when what it says is news.
    fn note(&mut self, stage: &Stage, now: Timestamp) -> Option<String> {
        let before = self.shown.get(&stage.name);
        let same = before.filter(|b| b.state == stage.state && b.attempt == stage.attempt);
        let mut shown = Shown {
            state: stage.state.clone(),
            attempt: stage.attempt,
            reason: stage.reason.clone(),
            since: same.map_or(now, |b| b.since),
            said: same.is_some_and(|b| b.said),
        };
        let reason_changed = same.is_some_and(|b| b.reason != stage.reason);
        let due = match stage.state.as_str() {
            "pending" => false,
            "queued" => now.since(shown.since) >= QUEUED_WORTH_SAYING && (!shown.said || reason_changed),
            "awaiting_approval" | "sleeping" => !shown.said || reason_changed,
            // A terminal's own line shows that it runs.
            "running" => !shown.said && self.live.is_none(),
            _ => !shown.said,
        };
        shown.said |= due;
        self.shown.insert(stage.name.clone(), shown);
        due.then(|| line(stage, now))
    }

    fn draw(&mut self, stage: &Stage, now: Timestamp) {
        let Some(live) = &self.live else { return };
        if !matches!(stage.state.as_str(), "running" | "rolling_back") {
            if let Some(bar) = self.bars.remove(&stage.name) {
                bar.finish_and_clear();
            }
            return;
        }
        let elapsed = Duration::from_millis(stage.took(now).unwrap_or(0).try_into().unwrap_or(0));
        let bar = self.bars.entry(stage.name.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            let bar = live.add(bar.with_elapsed(elapsed));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(format!("{}{}", clean(&stage.name), attempt(stage)));
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// One stage's state in one line.
fn line(stage: &Stage, now: Timestamp) -> String {
    let name = clean(&stage.name);
    let took = stage.took(now).map(duration);
    let text = match stage.state.as_str() {
        "succeeded" => format!("{name} {}", took.unwrap_or_else(|| "succeeded".to_owned())),
        "running" => format!("{name} running{}", attempt(stage)),
        "failed" => {
            let after = took.map(|t| format!(" after {t}")).unwrap_or_default();
            let why = stage.error.as_ref().map_or(&stage.reason, |e| &e.message);
            format!("{name} failed{after}{}{}", attempt(stage), colon(why))
        }
        other => {
            let word = other.replace('_', " ");
            format!("{name} {word}{}{}", attempt(stage), colon(without_word(&stage.reason, &word)))
        }
    };
    painted(&stage.state, &text)
}

/// A reason such as `Skipped: build failed.` without the word that stands before it already.
fn without_word<'a>(reason: &'a str, word: &str) -> &'a str {
    match reason.split_once(": ") {
        Some((first, rest)) if first.eq_ignore_ascii_case(word) => rest,
        _ => reason,
    }
}

/// `: reason`, on one line and not endless.
fn colon(text: &str) -> String {
    let text = clean(text);
    match text.chars().count() {
        0 => String::new(),
        1..=300 => format!(": {text}"),
        _ => format!(": {}…", text.chars().take(300).collect::<String>()),
    }
}

/// ` (attempt 2 of 3)`, where there is more than the first.
fn attempt(stage: &Stage) -> String {
    if stage.attempt > 1 {
        format!(" (attempt {} of {})", stage.attempt, stage.max_attempts.max(stage.attempt))
    } else {
        String::new()
    }
}

fn painted(state: &str, text: &str) -> String {
    format!("{} {text}", colour(state).for_stderr().apply_to(sign(state)))
}

/// What failed, how, the last lines it said, and where the rest is.
fn failure(stage: &Stage, tail: &Tail) -> String {
    let bold = Style::new().for_stderr().bold();
    let dim = Style::new().for_stderr().dim();
    let mut text = format!("\n{}\n", painted("failed", &bold.apply_to(clean(&stage.name)).to_string()));
    if let Some(error) = &stage.error {
        text.push_str(&format!("  {}: {}\n", error.class, clean(&error.message)));
        if let Some(command) = &error.command {
            let code = error.exit_code.map(|c| format!(" (exit code {c})")).unwrap_or_default();
            text.push_str(&format!("  $ {}{code}\n", clean(command)));
        }
        if let Some(at) = &error.at {
            text.push_str(&format!("  at {}\n", clean(at)));
        }
    }
    for line in &tail.lines {
        text.push_str(&format!("  {} {}\n", dim.apply_to("│"), clean_log(line, console::colors_enabled_stderr())));
    }
    if let Some(more) = &tail.more {
        text.push_str(&format!("  {} {more}\n", dim.apply_to("all of it:")));
    }
    text
}

/// How the run ended, in numbers, and its address.
fn summary(run: &Run, now: Timestamp) -> String {
    let took = run.started_at.or(run.created_at).map(|start| duration(run.finished_at.unwrap_or(now).since(start)));
    let mut counts: Vec<(&str, usize)> = vec![];
    for stage in &run.stages {
        match counts.iter_mut().find(|(state, _)| *state == stage.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&stage.state, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    let took = took.map(|t| format!(" in {t}")).unwrap_or_default();
    let number = if run.number > 0 { format!(" #{}", run.number) } else { String::new() };
    let text = format!("{}{number} {}{took}: {}", clean(&run.pipeline), run.state.replace('_', " "), counts.join(", "));
    let mut text = format!("\n{}", painted(&run.state, &Style::new().for_stderr().bold().apply_to(text).to_string()));
    if !matches!(run.state.as_str(), "completed" | "failed") {
        text.push_str(&format!("\n  {}", clean(&run.reason)));
    }
    if !run.url.is_empty() {
        text.push_str(&format!("\n  {}", clean(&run.url)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines_spec::plan::ErrorClass;
    use pipelines_spec::protocol::JobError;

    fn stage(name: &str, state: &str, attempt: i64) -> Stage {
        let started_at = (attempt > 0).then_some(Timestamp(1_000));
        let reason = if state == "queued" { "waits for a runner with os=linux" } else { "" }.to_owned();
        Stage {
            name: name.into(),
            state: state.into(),
            reason,
            attempt,
            max_attempts: 3,
            started_at,
            ..Stage::default()
        }
    }

    fn plain() -> Progress {
        console::set_colors_enabled_stderr(false);
        Progress { live: None, bars: BTreeMap::new(), shown: BTreeMap::new() }
    }

    fn notes(progress: &mut Progress, stages: &[Stage], now: i64) -> Vec<String> {
        stages.iter().filter_map(|s| progress.note(s, Timestamp(now))).collect()
    }

    #[test]
    fn each_change_is_said_once() {
        let mut progress = plain();
        let mut said = vec![];
        for (state, attempt, now) in [
            ("pending", 0, 0),
            ("queued", 0, 1_000),
            ("running", 1, 1_100),
            ("running", 1, 2_000),
            ("queued", 1, 3_000),
            ("running", 2, 3_500),
        ] {
            said.extend(notes(&mut progress, &[stage("test (db=sqlite)", state, attempt)], now));
        }
        let error = JobError {
            class: ErrorClass::CommandFailed,
            message: "`cargo test` ended with 101".into(),
            command: None,
            exit_code: Some(101),
            tail: None,
            at: None,
        };
        let ended =
            Stage { finished_at: Some(Timestamp(5_200)), error: Some(error), ..stage("test (db=sqlite)", "failed", 2) };
        said.extend(notes(&mut progress, &[ended], 6_000));
        insta::assert_snapshot!(said.join("\n"), @r"
        ● test (db=sqlite) running
        ● test (db=sqlite) running (attempt 2 of 3)
        ✗ test (db=sqlite) failed after 4.2 s (attempt 2 of 3): `cargo test` ended with 101
        ");
    }

    #[test]
    fn a_state_is_said_once() {
        let mut skipped = stage("deploy", "skipped", 0);
        skipped.reason = "Skipped: build failed.".into();
        insta::assert_snapshot!(notes(&mut plain(), &[skipped], 0).join("\n"), @"» deploy skipped: build failed.");
    }

    #[test]
    fn waiting_for_a_runner_is_said_when_it_lasts() {
        let mut progress = plain();
        let queued = [stage("build", "queued", 0)];
        let said: Vec<_> =
            [0, 1_000, 2_500, 9_000].into_iter().map(|now| notes(&mut progress, &queued, now).len()).collect();
        assert_eq!(said, [0, 0, 1, 0]);
    }

    #[test]
    fn the_end_says_how_and_where() {
        console::set_colors_enabled_stderr(false);
        let run = Run {
            number: 12,
            pipeline: "ci".into(),
            state: "failed".into(),
            url: "http://127.0.0.1:8080/runs/01j".into(),
            started_at: Some(Timestamp(0)),
            finished_at: Some(Timestamp(34_000)),
            stages: vec![
                stage("a", "succeeded", 1),
                stage("b", "failed", 1),
                stage("c", "skipped", 0),
                stage("d", "skipped", 0),
            ],
            ..Run::default()
        };
        insta::assert_snapshot!(summary(&run, Timestamp(0)), @r"

        ✗ ci #12 failed in 34 s: 1 succeeded, 1 failed, 2 skipped
          http://127.0.0.1:8080/runs/01j
        ");
    }
}
