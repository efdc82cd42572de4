//! `/help`: the commands that would do something on this pull request as it stands, ready to be typed.

use super::targets::{self, Target};
use super::texts::{code, short};
use super::{Scene, Trouble, start};
use crate::actions::retry;

/// Lines of one kind that are listed.
const MOST_LISTED: usize = 12;

/// The answer.
pub(super) async fn help(scene: &Scene<'_>) -> Result<String, Trouble> {
    let targets = targets::current(scene).await?;
    let head = short(scene.head_sha());
    let mut lines = vec![];
    if !targets::not_let_in(&targets).is_empty() {
        lines.push(line(&format!("/ok-to-test {head}"), "let exactly this commit run"));
    } else if scene.pull.facts.fork {
        lines.push(line("/ok-to-test cancel", "let nothing more of this pull request run"));
    }
    for gate in targets::gates(&targets).iter().take(MOST_LISTED) {
        let name = &gate.stage.name;
        lines.push(line(&format!("/approve {name} {head}"), &format!("let {} run", code(&gate.full_name()))));
        lines.push(line(&format!("/reject {name} REASON"), "do not"));
    }
    lines.extend(of_runs(&targets));
    let (pipelines, words) = start::defined(scene).await?;
    for name in pipelines.iter().take(MOST_LISTED) {
        lines.push(line(
            &format!("/run {name}"),
            "run it on the head of this pull request; inputs follow as `NAME=VALUE`",
        ));
    }
    for (word, starts) in words.all().into_iter().take(MOST_LISTED) {
        let starts: Vec<String> = starts.into_iter().map(code).collect();
        lines.push(line(word, &format!("start {}", starts.join(", "))));
    }
    Ok(format!("On this pull request, at {}:\n\n{}", code(head), lines.join("\n")))
}

fn line(command: &str, what: &str) -> String {
    format!("- {}: {what}", code(command))
}

fn of_runs(targets: &[Target]) -> Vec<String> {
    let mut lines = vec![];
    let failed = targets.iter().filter(|target| target.run.state.is_over());
    for target in failed.filter(|t| t.stages.iter().any(retry::may_reopen)).take(MOST_LISTED) {
        let number = target.run.number;
        let what = format!("try what failed in run {number} of {} again", code(&target.run.pipeline));
        lines.push(line(&format!("/retry {number}"), &what));
    }
    for target in targets.iter().filter(|target| !target.run.state.is_over()).take(MOST_LISTED) {
        let pipeline = &target.run.pipeline;
        lines.push(line(&format!("/cancel {pipeline}"), &format!("end run {}", target.run.number)));
    }
    lines
}
