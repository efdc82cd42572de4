//! Everything Rivet says in answer to comments, in one place: short, with what to type next, mentioning nobody. Text of
//! other people stands in code, where it is inert, or is made of letters and digits alone.

use crate::actions::people::NotConfirmed;
use crate::forge::ForgeError;
use crate::forge::markdown::{fenced, one_line, plain, sentence};
use crate::model::command::{LEAST_DIGITS, MOST, Misuse};
use crate::model::time::Timestamp;
use pipelines_spec::inputs::InputError;
use pipelines_spec::problem::Problem;

/// Characters of other people's text within a sentence.
const QUOTED_CHARS: usize = 80;
/// Bytes of problems that are shown.
const PROBLEM_BYTES: usize = 2_000;

/// Text from outside within a sentence: inside of code it mentions nobody and links nowhere.
pub(super) fn code(text: &str) -> String {
    let line = one_line(text, QUOTED_CHARS);
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    // A blank keeps a tick at either end apart from the fence; Markdown takes it away again.
    let pad = if line.starts_with('`') || line.ends_with('`') || line.trim().is_empty() { " " } else { "" };
    format!("{ticks}{pad}{line}{pad}{ticks}")
}

/// A word from outside in quotation marks, where it is nothing but letters, digits and dashes; else in code.
fn quoted(text: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    match text.bytes().all(harmless) && text.len() <= QUOTED_CHARS {
        true => format!("'{text}'"),
        false => code(text),
    }
}

/// A sentence of one of the verbs: what they put in code stays, everything else is made inert.
pub(super) fn of_verb(why: &str) -> String {
    let why = plain(why);
    let parts: Vec<&str> = why.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return sentence(&why);
    }
    let inert = |(index, part): (usize, &&str)| match index % 2 {
        0 => sentence(part),
        _ => format!("`{}`", part.replace('\n', " ")),
    };
    parts.iter().enumerate().map(inert).collect()
}

/// The same for what begins in the middle of a line elsewhere.
pub(super) fn of_engine(why: &str) -> String {
    let mut signs = why.trim_end_matches('.').chars();
    let begun: String = signs.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    of_verb(&format!("{begun}{}.", signs.as_str()))
}

/// The first digits of a commit.
pub(super) fn short(sha: &str) -> &str {
    sha.get(..LEAST_DIGITS).unwrap_or(sha)
}

pub(super) fn only_the_first() -> String {
    format!("Only the first {MOST} commands in a comment are read.")
}

pub(super) fn too_often(most: i64, minutes: i64) -> String {
    format!("At most {most} commands in {minutes} minutes are followed. Nothing was done; try again later.")
}

pub(super) fn closed() -> String {
    "This pull request is closed.".to_owned()
}

pub(super) fn name_the_commit(fork: bool, head: &str) -> String {
    let why = if fork { "This pull request comes from a fork." } else { "This pull request is not trusted." };
    format!("{why} Name the commit you reviewed: `/ok-to-test {}`.", short(head))
}

pub(super) fn needs_no_consent() -> String {
    "This pull request is not from a fork: its pipelines run without `/ok-to-test`.".to_owned()
}

pub(super) fn not_the_head(given: &str, head: &str) -> String {
    format!(
        "`{}` is not the head of this pull request (it is `{}`). Review the new commits, then approve that one.",
        short(given),
        short(head)
    )
}

pub(super) fn already_approved(login: &str, at: Timestamp) -> String {
    format!("Already approved by {} at {}.", sentence(login), at.rfc3339())
}

pub(super) fn not_of_this(number: i64) -> String {
    format!("Run {number} does not belong to this pull request.")
}

pub(super) fn still_running(number: i64) -> String {
    format!("Run {number} is still running.")
}

pub(super) fn cancel_takes(given: &str) -> String {
    format!("`/cancel` takes a run number or nothing; got {}.", quoted(given))
}

pub(super) fn not_confirmed(error: &NotConfirmed) -> String {
    match error {
        NotConfirmed::Unanswered(error) => {
            format!("GitHub did not confirm your permission ({}). Nothing was done; try again.", in_brief(error))
        }
        NotConfirmed::Another(login) => format!("{} is not the account that asked.", sentence(login)),
    }
}

/// `HTTP 502` where a status was answered, else what went wrong.
fn in_brief(error: &ForgeError) -> String {
    let text = error.to_string();
    let status = text.rsplit_once('(').and_then(|(_, status)| status.get(..3));
    match status.filter(|status| status.bytes().all(|b| b.is_ascii_digit())) {
        Some(status) => format!("HTTP {status}"),
        None => sentence(&text),
    }
}

pub(super) fn nothing_waits() -> String {
    "Nothing of this pull request waits for approval.".to_owned()
}

pub(super) fn does_not_wait(stage: &str) -> String {
    format!("Stage {} does not wait for approval.", quoted(stage))
}

pub(super) fn unknown_stage(stage: &str, near: Option<&str>) -> String {
    let hint = near.map(|near| format!(" Did you mean {}?", code(near))).unwrap_or_default();
    format!("Unknown stage {}.{hint}", quoted(stage))
}

pub(super) fn several_wait(names: &[String], word: &str, head: &str) -> String {
    let choices: Vec<String> = names.iter().map(|name| code(&format!("{word} {name} {}", short(head)))).collect();
    format!("Several stages wait. Say which: {}.", choices.join(", "))
}

pub(super) fn nothing_to_retry() -> String {
    "Nothing failed at the head of this pull request: there is nothing to retry.".to_owned()
}

pub(super) fn did_not_fail(stage: &str, run: i64) -> String {
    format!("Stage {} of run {run} did not fail.", quoted(stage))
}

pub(super) fn nothing_runs() -> String {
    "Nothing of this pull request runs now.".to_owned()
}

pub(super) fn none_of_pipeline_runs(pipeline: &str) -> String {
    format!("No run of {} is under way.", quoted(pipeline))
}

pub(super) fn no_environment(environment: &str) -> String {
    format!("There is no environment {} here: nothing was deployed to one of that name.", quoted(environment))
}

pub(super) fn misuse(misuse: &Misuse) -> String {
    match misuse {
        Misuse::Arguments(word, given) => {
            let got = if given.is_empty() { String::new() } else { format!("; got {}", quoted(given)) };
            format!("`{word}` takes {}{got}.", takes(word))
        }
        Misuse::Stage(given) => unknown_stage(given, None),
        Misuse::Commit => format!("Give at least {LEAST_DIGITS} hex digits of the commit."),
        Misuse::Cancel(given) => cancel_takes(given),
        Misuse::Input(given) => format!("Inputs are given as `NAME=VALUE`; got {}.", quoted(given)),
        Misuse::Quote => "A quotation mark is not closed: write `NAME=\"a b\"`.".to_owned(),
        Misuse::Twice(name) => format!("Input {} is given twice.", quoted(name)),
    }
}

fn takes(word: &str) -> &'static str {
    match word {
        "/run" => "the name of a pipeline, then its inputs as `NAME=VALUE`",
        "/ok-to-test" => "the commit you reviewed, or `cancel`",
        "/rollback" => "an environment, and `to N` for the number of a deployment",
        _ => "nothing",
    }
}

pub(super) fn wrong_inputs(pipeline: &str, errors: &[InputError]) -> String {
    let list: Vec<String> = errors.iter().map(|error| format!("- {}", sentence(&error.detail))).collect();
    format!("Pipeline {} was not started:\n\n{}", quoted(pipeline), list.join("\n"))
}

pub(super) fn broken(pipeline: &str, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let shown = fenced(&lines.join("\n"), PROBLEM_BYTES);
    format!("Pipeline {} cannot be read at this commit:\n\n{shown}", quoted(pipeline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_inert() {
        assert_eq!(cancel_takes("now"), "`/cancel` takes a run number or nothing; got 'now'.");
        assert_eq!(cancel_takes("@acme/ops"), "`/cancel` takes a run number or nothing; got `@acme/ops`.");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x"), "`` `x ``");
        assert_eq!(code(""), "`  `");
        assert_eq!(code(&"x".repeat(200)).chars().count(), QUOTED_CHARS + 2);
        assert_eq!(of_verb("Stage '@ops' waits: `/approve x`."), "Stage '@\u{2060}ops' waits: `/approve x`.");
        assert_eq!(of_verb("one ` tick @ops"), "one \\` tick @\u{2060}ops");
    }

    #[test]
    fn an_answer_of_the_forge_is_named_by_its_status() {
        let unanswered = |error| not_confirmed(&NotConfirmed::Unanswered(error));
        assert_eq!(
            unanswered(ForgeError::Unavailable("Bad Gateway (502 Bad Gateway)".to_owned())),
            "GitHub did not confirm your permission (HTTP 502). Nothing was done; try again."
        );
        assert_eq!(
            unanswered(ForgeError::Unavailable("no answer within 30 seconds".to_owned())),
            "GitHub did not confirm your permission (the forge is not available: no answer within 30 seconds). Nothing was \
             done; try again."
        );
    }
}
