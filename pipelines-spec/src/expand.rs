//! `${…}` in a definition's strings: what the names mean, and how a string is filled in.
//!
//! `${ref} ${sha} ${branch} ${event.a.b} ${input.NAME} ${matrix.AXIS}`; `$${` is a plain `${`. In a `run` line only these
//! names are ours (any other `$NAME` or `${NAME}` is the shell's), and a value never becomes part of the line: it travels as
//! an environment variable (see [`run_line`]).

use crate::inputs::text;
use crate::plan::InputSpec;
use crate::shell::Quoting;
use crate::suggest::nearest;
use crate::trigger::{EventFacts, EventKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Names of [`EventFacts`] that may be absent: they are empty then, not unknown.
const EVENT_FIELDS: [&str; 15] = [
    "name",
    "action",
    "repo",
    "default_branch",
    "ref",
    "branch",
    "tag",
    "sha",
    "before",
    "forced",
    "actor",
    "message",
    "pull_request",
    "dispatch_type",
    "extra",
];
/// The same of a pull request's facts.
const PULL_REQUEST_FIELDS: [&str; 11] =
    ["number", "title", "author", "base", "base_sha", "head", "head_sha", "merge_sha", "draft", "fork", "labels"];

/// What the names stand for.
pub struct Scope<'a> {
    event: &'a EventFacts,
    facts: Value,
    /// The declared inputs; `None`: names were checked before, so an absent one is empty.
    specs: Option<&'a BTreeMap<String, InputSpec>>,
    inputs: &'a Map<String, Value>,
    axes: Axes<'a>,
}

/// What `matrix.AXIS` stands for.
#[derive(Clone, Copy)]
pub enum Axes<'a> {
    /// The values of a leg (none without a matrix).
    Leg(&'a Map<String, Value>),
    /// Values come later: only the names are checked.
    Later(&'a [String]),
}

/// Why a string cannot be filled in: a sentence, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl<'a> Scope<'a> {
    /// A scope without a matrix.
    pub fn new(
        event: &'a EventFacts,
        specs: Option<&'a BTreeMap<String, InputSpec>>,
        inputs: &'a Map<String, Value>,
        axes: Axes<'a>,
    ) -> Self {
        let facts = serde_json::to_value(event).unwrap_or_default();
        Self { event, facts, specs, inputs, axes }
    }

    /// The same scope for another leg.
    pub fn with_axes(&self, axes: Axes<'a>) -> Self {
        Self { event: self.event, facts: self.facts.clone(), specs: self.specs, inputs: self.inputs, axes }
    }

    /// The value a name stands for, as text.
    pub fn value(&self, name: &str) -> Result<String, Unknown> {
        let value = match name {
            "ref" => Ok(short_ref(self.event)),
            "sha" => Ok(self.event.sha.clone()),
            "branch" => Ok(self.event.branch.clone().unwrap_or_default()),
            _ => match name.split_once('.') {
                Some(("event", path)) => self.event_value(path),
                Some(("input", input)) => self.input_value(input),
                Some(("matrix", axis)) => self.axis_value(axis),
                _ => Err(unknown("", name, ["ref", "sha", "branch"])),
            },
        };
        // No environment variable and no argument can carry a NUL.
        value.map(|v| v.replace('\0', "\u{fffd}"))
    }

    /// Whether the name is that of a secret input.
    pub fn is_secret(&self, name: &str) -> bool {
        let input = name.strip_prefix("input.");
        input.and_then(|i| self.specs?.get(i)).is_some_and(|spec| spec.secret)
    }

    fn event_value(&self, path: &str) -> Result<String, Unknown> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        if !EVENT_FIELDS.contains(&first) {
            return Err(unknown("event.", path, EVENT_FIELDS));
        }
        if first == "pull_request"
            && let Some(field) = path.split('.').nth(1)
            && !PULL_REQUEST_FIELDS.contains(&field)
        {
            return Err(unknown("event.pull_request.", field, PULL_REQUEST_FIELDS));
        }
        let value = parts.try_fold(self.facts.get(first).unwrap_or(&Value::Null), |at, part| at.get(part));
        Ok(value.map(text).unwrap_or_default())
    }

    fn input_value(&self, input: &str) -> Result<String, Unknown> {
        match (self.inputs.get(input), self.specs) {
            (Some(value), _) => Ok(text(value)),
            (None, Some(specs)) if !specs.contains_key(input) => {
                Err(unknown("input.", input, specs.keys().map(String::as_str)))
            }
            (None, Some(_) | None) => Ok(String::new()),
        }
    }

    fn axis_value(&self, axis: &str) -> Result<String, Unknown> {
        match self.axes {
            Axes::Leg(leg) => match leg.get(axis) {
                Some(value) => Ok(text(value)),
                None => Err(unknown("matrix.", axis, leg.keys().map(String::as_str))),
            },
            Axes::Later(axes) if axes.iter().any(|a| a == axis) => Ok(String::new()),
            Axes::Later(axes) => Err(unknown("matrix.", axis, axes.iter().map(String::as_str))),
        }
    }
}

/// `prefix` is what the name and the known ones have in common: it must not make them look alike.
fn unknown<'k>(prefix: &str, rest: &str, known: impl IntoIterator<Item = &'k str>) -> Unknown {
    let name = format!("{prefix}{rest}");
    let hint = match nearest(rest, known) {
        Some(near) => format!("Did you mean '${{{prefix}{near}}}'?"),
        None => format!("Write $${{{name}}} for the plain text."),
    };
    Unknown { message: format!("unknown name '{name}' in ${{{name}}}"), hint: Some(hint) }
}

/// The ref's short name: a branch's, a tag's, or `pull/5`.
pub fn short_ref(event: &EventFacts) -> String {
    let full = event.git_ref.as_str();
    if let Some(number) = full.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next()) {
        return format!("pull/{number}");
    }
    if let (EventKind::PullRequest, Some(pull)) = (event.name, &event.pull_request) {
        return format!("pull/{}", pull.number);
    }
    full.strip_prefix("refs/heads/").or_else(|| full.strip_prefix("refs/tags/")).unwrap_or(full).to_owned()
}

/// A piece of a string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// `$${`: a plain `${`.
    Escape,
    /// A `${` that is not closed before the next one begins.
    Open,
    /// `${name}`.
    Name(&'a str),
}

/// Cuts a string at its `${…}`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        let before = &rest[..at - usize::from(escaped)];
        let after = &rest[at + 2..];
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        match after.find('}') {
            _ if escaped => {
                pieces.push(Piece::Escape);
                rest = after;
            }
            Some(end) if !after[..end].contains("${") => {
                pieces.push(Piece::Name(&after[..end]));
                rest = &after[end + 1..];
            }
            Some(_) | None => {
                pieces.push(Piece::Open);
                rest = after;
            }
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// A declarative string with every `${…}` filled in, or all that is wrong with it. Every name must be known.
pub fn string(scope: &Scope<'_>, text: &str, secrets: Secrets) -> Result<String, Vec<Unknown>> {
    let mut out = String::with_capacity(text.len());
    let mut problems = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Escape => out.push_str("${"),
            Piece::Open => problems.push(Unknown {
                message: format!("'${{' is not closed in '{text}'"),
                hint: Some("Write $${ for a plain '${'.".to_owned()),
            }),
            Piece::Name(name) if secrets == Secrets::Refused && scope.is_secret(name) => problems.push(Unknown {
                message: format!("the secret value of ${{{name}}} would be shown here"),
                hint: Some("Secret inputs can be used in 'env' and in 'run' lines.".to_owned()),
            }),
            Piece::Name(name) => match scope.value(name) {
                Ok(value) => out.push_str(&value),
                Err(problem) => problems.push(problem),
            },
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// Whether a string's place is one people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Nobody sees it.
    Allowed,
    /// It is shown: labels, images, groups, environments.
    Refused,
}

/// The values of one stage's `run` lines by the environment variable that carries each: `RIVET_V_1`, `RIVET_V_2`, …
#[derive(Debug, Default)]
pub struct RunValues {
    variables: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl RunValues {
    fn variable(&mut self, name: &str, value: String) -> String {
        let next = format!("RIVET_V_{}", self.variables.len() + 1);
        let variable = self.variables.entry(name.to_owned()).or_insert(next).clone();
        self.values.insert(variable.clone(), value);
        variable
    }

    /// The values by variable.
    pub fn into_values(self) -> BTreeMap<String, String> {
        self.values
    }
}

/// Whether a name in a `run` line is ours and not the shell's. A shell variable cannot have a dot in its name.
fn is_ours(name: &str) -> bool {
    let dotted = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && is_path(rest));
    matches!(name, "ref" | "sha" | "branch") || ["event.", "input.", "matrix."].into_iter().any(dotted)
}

fn is_path(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// A `run` line in which our names have become references to environment variables.
///
/// What is written depends on the quotes around the name, so that a value is always exactly one word's text, never split,
/// never expanded again, and never read as shell code:
///
/// | around the name | becomes |
/// | --- | --- |
/// | nothing | `"${RIVET_V_1}"` |
/// | `"…"`, here-documents, `$((…))`, `${…:-…}` in quotes | `${RIVET_V_1}` |
/// | `'…'` | `'"${RIVET_V_1}"'`: the quotes end, the value comes, they begin again |
///
/// In a here-document whose delimiter is quoted the shell expands nothing, so a name there is a problem. A value that is
/// handed to a second shell (`sh -c "… ${input.x}"`, `eval`, `ssh`) is read as code by that one, as any variable would be:
/// hand it over as an argument or in the environment instead.
pub fn run_line(scope: &Scope<'_>, line: &str, values: &mut RunValues) -> Result<String, Vec<Unknown>> {
    let mut out = String::with_capacity(line.len());
    let mut quoting = Quoting::default();
    let mut problems = Vec::new();
    for piece in pieces(line) {
        let name = match piece {
            // `\${sha}` is the shell's way to say that the plain text is meant.
            Piece::Name(name) if is_ours(name) && !quoting.is_escaped() => name,
            Piece::Name(name) => {
                for text in ["${", name, "}"] {
                    quoting.read(text);
                    out.push_str(text);
                }
                continue;
            }
            Piece::Text(text) => {
                quoting.read(text);
                out.push_str(text);
                continue;
            }
            Piece::Escape | Piece::Open => {
                quoting.read("${");
                out.push_str("${");
                continue;
            }
        };
        match scope.value(name) {
            Ok(value) => match quoting.reference(&values.variable(name, value)) {
                Some(reference) => out.push_str(&reference),
                None => problems.push(Unknown {
                    message: format!("${{{name}}} stands in a here-document whose delimiter is quoted, where the shell expands nothing"),
                    hint: Some("Take the quotes off the delimiter.".to_owned()),
                }),
            },
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
