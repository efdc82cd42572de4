//! One stage.

use super::Dialect;
use super::checker::{Checker, Fields};
use super::values::{is_image, is_stage_name, is_variable};
use crate::plan::{Action, Approval, Backoff, Condition, ErrorClass, Retry, Rollback, Stage};
use crate::problem::Location;
use crate::raw::{Node, Raw, quoted};
use serde_json::Map;

/// Seconds one attempt may take.
const STAGE_SECONDS: u32 = 86_400;
/// Seconds a gate may stay open.
const GATE_SECONDS: u32 = 30 * 86_400;

pub(super) const KEYS: &[&str] = &[
    "depends_on",
    "run",
    "pipeline",
    "inputs",
    "container",
    "matrix",
    "retry",
    "timeout",
    "env",
    "secrets",
    "environment",
    "approval",
    "rollback",
    "services",
    "runner",
    "priority",
];

/// A stage, and what the graph needs to know of how it was written.
pub(super) struct Written {
    pub stage: Stage,
    /// Whether `depends_on` was written at all.
    pub has_depends_on: bool,
    /// Where each name of `depends_on` is.
    pub dependency_places: Vec<Location>,
    /// Where its name is.
    pub name_at: Location,
}

/// Reads a stage. `key` is its name where its key in the file names it.
pub(super) fn stage(
    c: &mut Checker<'_>,
    node: &Node,
    index: usize,
    key: Option<(String, Location)>,
) -> Option<Written> {
    let raw_name = key.as_ref().map(|(name, _)| name.clone()).or_else(|| written_name(node));
    let owner =
        raw_name.as_ref().map_or_else(|| format!("stage {}", index + 1), |name| format!("stage {}", quoted(name)));
    let mut known = KEYS.to_vec();
    known.push(c.dialect.condition());
    if c.dialect == Dialect::Lua {
        known.extend(["name", "script"]);
    }
    let fields = c.fields(node, &owner, &owner, &known)?;
    let (name, name_at) = c.stage_name(&fields, key, index);
    let depends_on = fields.get("depends_on");
    let places = depends_on.and_then(Node::table).map(|t| t.items.iter().map(|i| i.at.clone()).collect());
    let environment = c.text(&fields, "environment").filter(|text| !text.is_empty());
    let stage = Stage {
        depends_on: c.texts(&fields, "depends_on").unwrap_or_default(),
        action: c.action(&fields, &owner),
        container: c.image(&fields, "container"),
        condition: c.condition(&fields),
        matrix: fields.get("matrix").and_then(|node| c.matrix(node, &name)),
        retry: fields.get("retry").and_then(|node| c.retry(node, "retry")),
        timeout: c.seconds(&fields, "timeout", STAGE_SECONDS),
        env: c.env(&fields, "env"),
        secrets: c.secrets(&fields),
        approval: fields.get("approval").and_then(|node| c.approval(node, environment.is_some())),
        environment,
        rollback: fields.get("rollback").and_then(|node| c.rollback(node, &owner)),
        services: c.services(&fields),
        runner: c.labels(&fields, "runner"),
        priority: c.whole(&fields, "priority", -1000, 1000).unwrap_or(0),
        at: Some(name_at.clone()),
        name,
    };
    Some(Written {
        stage,
        has_depends_on: depends_on.is_some(),
        dependency_places: places.unwrap_or_default(),
        name_at,
    })
}

fn written_name(node: &Node) -> Option<String> {
    match &node.table()?.get("name")?.value {
        Raw::Text(name) => Some(name.clone()),
        _ => None,
    }
}

impl Checker<'_> {
    fn stage_name(&mut self, fields: &Fields<'_>, key: Option<(String, Location)>, index: usize) -> (String, Location) {
        let (name, at) = match (key, fields.get("name")) {
            (Some(key), _) => key,
            (None, None) => {
                self.report(fields.at, "plan.missing", format!("stage {} has no name.", index + 1));
                return (format!("\0{index}"), fields.at.clone());
            }
            (None, Some(node)) => match self.text_of(node, "name") {
                Some(name) => (name, node.at.clone()),
                None => return (format!("\0{index}"), node.at.clone()),
            },
        };
        if !is_stage_name(&name) {
            let text = format!("stage name {} must match [A-Za-z0-9][A-Za-z0-9_.-]{{0,62}}.", quoted(&name));
            self.report(&at, "plan.name", text);
        }
        (name, at)
    }

    fn action(&mut self, fields: &Fields<'_>, owner: &str) -> Action {
        let kinds: &[&str] = match self.dialect {
            Dialect::Lua => &["script", "run", "pipeline"],
            Dialect::Toml => &["run", "pipeline"],
        };
        let given: Vec<&str> = kinds.iter().copied().filter(|kind| fields.has(kind)).collect();
        if given.is_empty() {
            let text = format!("{owner} does nothing; give it {}.", alternatives(kinds));
            self.report(fields.at, "plan.missing", text);
        } else if given.len() > 1 {
            let text = format!("{owner} has both '{}' and '{}'; a stage does one thing.", given[0], given[1]);
            self.report(fields.at, "plan.conflict", text);
        }
        if let Some(node) = fields.get("inputs").filter(|_| !fields.has("pipeline")) {
            let text = format!("'inputs' has no use in {owner}, which runs no pipeline.");
            self.report(&node.at, "plan.conflict", text);
        }
        if fields.has("pipeline") {
            return self.child(fields, owner);
        }
        if let Some(node) = fields.get("run") {
            return Action::Run { run: self.run_lines(node, "run") };
        }
        if let Some(node) = fields.get("script").filter(|node| !node.is_function()) {
            self.expect_function(node, "script");
        }
        Action::Script
    }

    fn expect_function(&mut self, node: &Node, name: &str) {
        self.mismatch(node, name, "a function");
        if let (Raw::Text(_), Some(last)) = (&node.value, self.problems.last_mut()) {
            last.hint = Some("Shell lines go in 'run'.".into());
        }
    }

    fn run_lines(&mut self, node: &Node, name: &str) -> Vec<String> {
        let problems = self.problems.len();
        let Some(lines) = self.text_or_texts(node, name) else { return Vec::new() };
        if self.problems.len() == problems && lines.iter().all(|line| line.trim().is_empty()) {
            self.report(&node.at, "plan.type", format!("{name} must have at least one command."));
        }
        lines
    }

    fn child(&mut self, fields: &Fields<'_>, owner: &str) -> Action {
        for key in ["container", "env", "secrets", "services", "rollback", "runner"] {
            if let Some(node) = fields.get(key) {
                self.report(
                    &node.at,
                    "plan.conflict",
                    format!("'{key}' has no use in {owner}, which runs a pipeline."),
                );
            }
        }
        let pipeline = self.required_text(fields, "pipeline").unwrap_or_default();
        let mut inputs = Map::new();
        if let Some(node) = fields.get("inputs")
            && let Some(entries) = self.entries(node, "inputs")
        {
            for entry in entries {
                if let Some(value) = self.json(&entry.value, &format!("inputs.{}", entry.key)) {
                    inputs.insert(entry.key.clone(), value);
                }
            }
        }
        Action::Pipeline { pipeline, inputs }
    }

    pub(super) fn image(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let node = fields.get(key)?;
        let image = self.text_of(node, &fields.name(key))?;
        // What `${…}` stands for is checked again once it is known.
        if !is_image(&placeheld(&image)) {
            self.report(&node.at, "plan.image", format!("{} is not an image reference.", quoted(&image)));
        }
        Some(image)
    }

    fn condition(&mut self, fields: &Fields<'_>) -> Option<Condition> {
        let key = self.dialect.condition();
        let node = fields.get(key)?;
        if self.dialect == Dialect::Lua && node.is_function() {
            return Some(Condition::Function);
        }
        let Raw::Text(expression) = &node.value else {
            let expected = match self.dialect {
                Dialect::Lua => "a function or a Lua expression",
                Dialect::Toml => "a Lua expression",
            };
            self.mismatch(node, key, expected);
            return None;
        };
        if let Err(why) = self.language.check_expression(expression) {
            self.report(&node.at, "config.syntax", format!("{key} is not a Lua expression: {why}"));
        }
        Some(Condition::Expression { expression: expression.clone() })
    }

    fn retry(&mut self, node: &Node, name: &str) -> Option<Retry> {
        let fields = self.nested(node, name, &["max_attempts", "on", "backoff"])?;
        if !fields.has("max_attempts") {
            self.report(fields.at, "plan.missing", format!("{name}.max_attempts is missing."));
        }
        let max_attempts = self.count(&fields, "max_attempts", 1, 100).unwrap_or(1);
        let mut on = Vec::new();
        if let Some(list) = fields.get("on")
            && let Some(items) = self.list(list, &fields.name("on"), "a list of error classes")
        {
            const CLASSES: &[&str] =
                &["script_error", "command_failed", "timeout", "infra_error", "lost_runner", "limit"];
            for item in items {
                let class = self.choice(item, &fields.name("on"), CLASSES);
                on.extend(class.and_then(|class| class.parse::<ErrorClass>().ok()));
            }
        }
        let backoff = fields.get("backoff").and_then(|node| self.backoff(node, &fields.name("backoff")));
        Some(Retry { max_attempts, on, backoff: backoff.unwrap_or_default() })
    }

    fn backoff(&mut self, node: &Node, name: &str) -> Option<Backoff> {
        let fields = self.nested(node, name, &["initial", "factor", "max", "jitter"])?;
        let default = Backoff::default();
        Some(Backoff {
            initial: self.delay(&fields, "initial", STAGE_SECONDS).unwrap_or(default.initial),
            factor: self.number(&fields, "factor", 1.0, 100.0).unwrap_or(default.factor),
            max: self.delay(&fields, "max", STAGE_SECONDS).unwrap_or(default.max),
            jitter: self.number(&fields, "jitter", 0.0, 1.0).unwrap_or(default.jitter),
        })
    }

    fn secrets(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let Some(node) = fields.get("secrets") else { return Vec::new() };
        let secrets = self.texts_of(node, "secrets").unwrap_or_default();
        for name in secrets.iter().filter(|name| !is_variable(name)) {
            self.report(
                &node.at,
                "plan.name",
                format!("secret name {} must match [A-Za-z_][A-Za-z0-9_]*.", quoted(name)),
            );
        }
        secrets
    }

    fn approval(&mut self, node: &Node, deploys: bool) -> Option<Approval> {
        let known = ["required", "reviewers", "count", "prevent_self", "expires"];
        let fields = self.nested(node, "approval", &known)?;
        let reviewers = self.texts(&fields, "reviewers").unwrap_or_default();
        for reviewer in reviewers.iter().filter(|name| !is_reviewer(name)) {
            let at = fields.get("reviewers").map_or(fields.at, |node| &node.at);
            let text = format!("reviewer {} must be a login, a group or '@org/team'.", quoted(reviewer));
            self.report(at, "plan.name", text);
        }
        Some(Approval {
            required: self.flag(&fields, "required").unwrap_or(true),
            count: self.count(&fields, "count", 1, 100).unwrap_or(1),
            prevent_self: self.flag(&fields, "prevent_self").unwrap_or(deploys),
            expires: self.seconds(&fields, "expires", GATE_SECONDS),
            policy_reviewers: vec![],
            reviewers,
        })
    }

    fn rollback(&mut self, node: &Node, owner: &str) -> Option<Rollback> {
        if node.is_function() && self.dialect == Dialect::Lua {
            return Some(Rollback { action: Action::Script, timeout: None, retry: None });
        }
        if node.table().is_none() {
            let expected = if self.dialect == Dialect::Lua { "a function or a table" } else { "a table" };
            self.mismatch(node, "rollback", expected);
            return None;
        }
        let mut known = vec!["run", "timeout", "retry"];
        if self.dialect == Dialect::Lua {
            known.push("script");
        }
        let fields = self.nested(node, "rollback", &known)?;
        let action = match (fields.get("script"), fields.get("run")) {
            (Some(_), Some(_)) => {
                let text = format!("the rollback of {owner} has both 'script' and 'run'; it does one thing.");
                self.report(fields.at, "plan.conflict", text);
                Action::Script
            }
            (Some(script), None) => {
                if !script.is_function() {
                    self.expect_function(script, "rollback.script");
                }
                Action::Script
            }
            (None, Some(run)) => Action::Run { run: self.run_lines(run, "rollback.run") },
            (None, None) => {
                self.report(fields.at, "plan.missing", format!("the rollback of {owner} does nothing; give it 'run'."));
                Action::Script
            }
        };
        let retry = fields.get("retry").and_then(|node| self.retry(node, "rollback.retry"));
        Some(Rollback { action, timeout: self.seconds(&fields, "timeout", STAGE_SECONDS), retry })
    }
}

fn alternatives(kinds: &[&str]) -> String {
    let quoted: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// `alice`, `devops`, `@acme/release`.
pub(crate) fn is_reviewer(name: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-[]".contains(&b));
    match name.strip_prefix('@') {
        Some(team) => team.split_once('/').map_or_else(|| word(team), |(org, team)| word(org) && word(team)),
        None => word(name),
    }
}

/// The text with every `${…}` replaced by something harmless.
fn placeheld(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((_, after)) = after.split_once('}') else { break };
        result.push_str(before);
        result.push('x');
        rest = after;
    }
    result + rest
}
