//! What people may say in a comment: read once from its Markdown into a typed command; nothing else of the text goes on.
//!
//! A command is a whole line, from its first column, outside of everything that is quoted, code or folded away. Its word
//! and the names after it are ASCII; only a reason and the values of inputs may be any readable text.

mod html;
mod lines;
mod words;

use words::{Given, commit_or_short, inputs, is_commit, is_name, is_readable, run_number, split};

/// Commands of one comment that are read.
pub const MOST: usize = 5;
/// Bytes of a comment that are read: GitHub takes 65,536 characters of up to four bytes.
pub const LONGEST_BYTES: usize = 4 * 65_536;
/// Hex digits a commit is named by at least.
pub const LEAST_DIGITS: usize = 12;

/// One command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/approve [STAGE] [SHA]`
    Approve {
        /// Which stage; none: the one that waits.
        stage: Option<String>,
        /// The commit that was reviewed.
        sha: Option<String>,
    },
    /// `/approve cancel [STAGE]`: takes the own approval back.
    Unapprove {
        /// Which stage; none: the one that waits.
        stage: Option<String>,
    },
    /// `/reject [STAGE] [REASON]`: whether the first word is a stage shows where it is known which ones wait.
    Reject {
        /// Everything behind the word.
        text: String,
    },
    /// `/retry [STAGE|RUN]`
    Retry(Option<Which>),
    /// `/cancel [PIPELINE|RUN]`
    Cancel(Option<Which>),
    /// `/run PIPELINE [NAME=VALUE…]`
    Run {
        /// Which pipeline.
        pipeline: String,
        /// Its inputs as they were given.
        inputs: Vec<(String, String)>,
    },
    /// `/ok-to-test SHA`
    LetIn {
        /// The commit that was reviewed.
        sha: Option<String>,
    },
    /// `/ok-to-test cancel`
    ShutOut,
    /// `/rollback ENVIRONMENT [to N]`
    Rollback {
        /// Which environment.
        environment: String,
        /// The number of the entry to go back to; none: the one before.
        to: Option<i64>,
    },
    /// `/help`
    Help,
    /// A word that is none of Rivet's own: a pipeline may have it in `on.comment`.
    Own {
        /// The word with its slash.
        word: String,
        /// `NAME=VALUE` where they follow.
        inputs: Vec<(String, String)>,
    },
}

/// A run or what has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// A run's number.
    Run(i64),
    /// A stage's or pipeline's name.
    Named(String),
}

/// A command that is used wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misuse {
    /// The arguments are not what the command takes: its word, and what was given.
    Arguments(&'static str, String),
    /// What should be a stage cannot be one.
    Stage(String),
    /// A commit is named by too few digits, or by something else.
    Commit,
    /// `/cancel` with something that is neither run nor pipeline.
    Cancel(String),
    /// What should be `NAME=VALUE` is not.
    Input(String),
    /// A quotation mark is not closed.
    Quote,
    /// An input is given twice.
    Twice(String),
}

/// One line that is meant as a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line as it was written.
    pub text: String,
    /// What it means.
    pub meaning: Result<Command, Misuse>,
}

/// What a comment says: the first [`MOST`] commands, equal ones once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// The commands.
    pub lines: Vec<Line>,
    /// Whether there were more.
    pub more: bool,
}

impl Line {
    /// The word of a pipeline, if it is one.
    pub fn own_word(&self) -> Option<&str> {
        match &self.meaning {
            Ok(Command::Own { word, .. }) => Some(word),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Whether a text could hold a command at all: the cheap question before the forge is asked anything.
pub fn may_hold(body: &str) -> bool {
    body.split(['\n', '\r']).any(|line| line.starts_with('/'))
}

/// Every line of a comment that is meant as a command.
pub fn read(body: &str) -> Vec<Line> {
    if body.len() > LONGEST_BYTES || !may_hold(body) {
        return vec![];
    }
    lines::candidates(body).into_iter().filter_map(line).collect()
}

/// The first [`MOST`] of them. A pipeline's word counts only where `is_known` says that one has it.
pub fn first(lines: Vec<Line>, is_known: impl Fn(&str) -> bool) -> Said {
    let mut said = Said::default();
    let meant = lines.into_iter().filter(|line| line.own_word().is_none_or(&is_known));
    for (index, line) in meant.enumerate() {
        if index >= MOST {
            said.more = true;
            break;
        }
        if !said.lines.contains(&line) {
            said.lines.push(line);
        }
    }
    said
}

/// One line: none where it is no command but a path, a sentence, or not what it looks like.
fn line(text: &str) -> Option<Line> {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let name = word.strip_prefix('/')?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.len() > 63 || !name.bytes().all(plain) {
        return None;
    }
    let rest = rest.trim_matches([' ', '\t']);
    let takes_text = !matches!(word, "/approve" | "/retry" | "/cancel" | "/ok-to-test" | "/rollback" | "/help");
    if !rest
        .chars()
        .all(|sign| sign == '\t' || sign.is_ascii_graphic() || sign == ' ' || (takes_text && is_readable(sign)))
    {
        return None;
    }
    Some(Line { text: text.to_owned(), meaning: meaning(word, rest) })
}

fn meaning(word: &str, rest: &str) -> Result<Command, Misuse> {
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    match word {
        "/approve" => approve(&words),
        "/reject" => Ok(Command::Reject { text: rest.to_owned() }),
        "/retry" => Ok(Command::Retry(stage_or_run(&words)?)),
        "/cancel" => Ok(Command::Cancel(pipeline_or_run(&words)?)),
        "/run" => run(rest),
        "/ok-to-test" => ok_to_test(&words),
        "/rollback" => rollback(&words),
        "/help" if words.is_empty() => Ok(Command::Help),
        "/help" => Err(Misuse::Arguments("/help", rest.to_owned())),
        _ => own(word, rest),
    }
}

fn approve(words: &[&str]) -> Result<Command, Misuse> {
    let (names, sha) = match words.split_last() {
        // A single word of hex digits is a commit; a stage of such a name is named together with one.
        Some((last, names)) if is_commit(last, 7) => (names, Some(commit_or_short(last)?)),
        Some(_) | None => (words, None),
    };
    match (names, sha) {
        (["cancel", names @ ..], None) => Ok(Command::Unapprove { stage: stage(names)? }),
        (names, sha) => Ok(Command::Approve { stage: stage(names)?, sha }),
    }
}

/// A stage's own name, or that of a matrix leg, which has blanks: `test (db=sqlite, os=linux)`; with its pipeline before
/// it where two have one of the same name: `ci/test`.
fn stage(words: &[&str]) -> Result<Option<String>, Misuse> {
    let name = words.join(" ");
    let leg = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.=,:/@+- ".contains(&b));
    let plain = |name: &str| match name.split_once('/') {
        None => is_name(name),
        Some((pipeline, name)) => is_name(pipeline) && is_name(name),
    };
    let valid = match name.split_once(" (") {
        None => plain(&name),
        Some((base, axes)) => plain(base) && axes.strip_suffix(')').is_some_and(leg),
    };
    match name.is_empty() {
        true => Ok(None),
        false if valid => Ok(Some(name)),
        false => Err(Misuse::Stage(name)),
    }
}

fn stage_or_run(words: &[&str]) -> Result<Option<Which>, Misuse> {
    if let [one] = words
        && let Some(number) = run_number(one)
    {
        return Ok(Some(Which::Run(number)));
    }
    Ok(stage(words)?.map(Which::Named))
}

fn pipeline_or_run(words: &[&str]) -> Result<Option<Which>, Misuse> {
    match words {
        [] => Ok(None),
        [one] if run_number(one).is_some() => Ok(run_number(one).map(Which::Run)),
        [one] if is_name(one) => Ok(Some(Which::Named((*one).to_owned()))),
        several => Err(Misuse::Cancel(several.join(" "))),
    }
}

fn run(rest: &str) -> Result<Command, Misuse> {
    let mut tokens = split(rest)?.into_iter();
    let pipeline = match tokens.next() {
        Some(Given::Word(name)) if is_name(&name) => name,
        Some(_) | None => return Err(Misuse::Arguments("/run", rest.to_owned())),
    };
    Ok(Command::Run {
        pipeline,
        inputs: inputs(tokens.map(|token| match token {
            Given::Input(name, value) => Ok((name, value)),
            Given::Word(word) => Err(Misuse::Input(word)),
        }))?,
    })
}

/// A pipeline's own word. What has the form of an input is one; everything else is for the pipeline to read as text.
fn own(word: &str, rest: &str) -> Result<Command, Misuse> {
    // A quotation mark within prose is no mistake.
    let tokens = split(rest).unwrap_or_default();
    let given = tokens.into_iter().filter_map(|token| match token {
        Given::Input(name, value) => Some(Ok((name, value))),
        Given::Word(_) => None,
    });
    let inputs = inputs(given)?;
    Ok(Command::Own { word: word.to_owned(), inputs })
}

fn ok_to_test(words: &[&str]) -> Result<Command, Misuse> {
    match words {
        [] => Ok(Command::LetIn { sha: None }),
        ["cancel"] => Ok(Command::ShutOut),
        [sha] => Ok(Command::LetIn { sha: Some(commit_or_short(sha)?) }),
        _ => Err(Misuse::Arguments("/ok-to-test", words.join(" "))),
    }
}

fn rollback(words: &[&str]) -> Result<Command, Misuse> {
    let wrong = || Misuse::Arguments("/rollback", words.join(" "));
    let (environment, to) = match words {
        [environment] => (environment, None),
        [environment, "to", number] => (environment, Some(run_number(number).ok_or_else(wrong)?)),
        _ => return Err(wrong()),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    if environment.len() > 255 || !environment.bytes().all(plain) {
        return Err(wrong());
    }
    Ok(Command::Rollback { environment: (*environment).to_owned(), to })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
