//! What starts a pipeline.

use super::checker::{Checker, Fields};
use crate::raw::{Node, Raw, quoted};
use crate::trigger::{CommentTrigger, MergeGroupTrigger, PullRequestTrigger, PushTrigger, Schedule, Triggers};
use serde_json::Map;

pub(super) const KEYS: &[&str] =
    &["push", "pull_request", "schedule", "comment", "merge_group", "repository_dispatch", "manual"];
/// What pull requests tell that can start a pipeline. `closed` ends runs, and the rest changes nothing that is built.
const PULL_REQUEST_TYPES: &[&str] =
    &["opened", "synchronize", "reopened", "ready_for_review", "converted_to_draft", "edited", "labeled", "unlabeled"];
/// Commands Rivet answers itself.
const OWN_COMMANDS: &[&str] =
    &["/approve", "/reject", "/retry", "/cancel", "/run", "/ok-to-test", "/rollback", "/help"];

pub(super) fn triggers(c: &mut Checker<'_>, node: &Node) -> Triggers {
    let Some(fields) = c.fields(node, "on", "on", KEYS) else { return Triggers::default() };
    Triggers {
        push: fields.get("push").and_then(|node| c.push(node)),
        pull_request: fields.get("pull_request").and_then(|node| c.pull_request(node)),
        schedule: c.one_or_many(&fields, "schedule", "cron", Checker::schedule),
        comment: c.one_or_many(&fields, "comment", "command", Checker::comment),
        merge_group: fields.get("merge_group").and_then(|node| c.merge_group(node)),
        repository_dispatch: fields.get("repository_dispatch").and_then(|node| c.dispatch(node)),
        manual: c.flag(&fields, "manual").unwrap_or(false),
    }
}

/// `true` stands for a trigger without filters, `false` for none.
enum Switch<'n> {
    Off,
    On,
    Table(&'n Node),
}

fn switch(node: &Node) -> Switch<'_> {
    match node.value {
        Raw::Bool(false) => Switch::Off,
        Raw::Bool(true) => Switch::On,
        _ => Switch::Table(node),
    }
}

impl Checker<'_> {
    fn push(&mut self, node: &Node) -> Option<PushTrigger> {
        match switch(node) {
            Switch::Off => None,
            Switch::On => Some(PushTrigger::default()),
            Switch::Table(node) => {
                let fields = self.nested(node, "on.push", &["branches", "tags", "paths", "with_pull_request"])?;
                Some(PushTrigger {
                    branches: self.globs(&fields, "branches"),
                    tags: self.globs(&fields, "tags"),
                    paths: self.globs(&fields, "paths"),
                    with_pull_request: self.flag(&fields, "with_pull_request").unwrap_or(false),
                })
            }
        }
    }

    fn pull_request(&mut self, node: &Node) -> Option<PullRequestTrigger> {
        match switch(node) {
            Switch::Off => None,
            Switch::On => Some(PullRequestTrigger::default()),
            Switch::Table(node) => {
                let known = ["branches", "paths", "types", "labels", "drafts", "merge"];
                let fields = self.nested(node, "on.pull_request", &known)?;
                Some(PullRequestTrigger {
                    branches: self.globs(&fields, "branches"),
                    paths: self.globs(&fields, "paths"),
                    types: self.pull_request_types(&fields),
                    labels: self.texts(&fields, "labels"),
                    drafts: self.flag(&fields, "drafts").unwrap_or(true),
                    merge: self.flag(&fields, "merge").unwrap_or(true),
                })
            }
        }
    }

    fn pull_request_types(&mut self, fields: &Fields<'_>) -> Option<Vec<String>> {
        let node = fields.get("types")?;
        let items = self.list(node, "on.pull_request.types", "a list of strings")?;
        Some(items.iter().filter_map(|item| self.choice(item, "on.pull_request.types", PULL_REQUEST_TYPES)).collect())
    }

    fn merge_group(&mut self, node: &Node) -> Option<MergeGroupTrigger> {
        match switch(node) {
            Switch::Off => None,
            Switch::On => Some(MergeGroupTrigger::default()),
            Switch::Table(node) => {
                let fields = self.nested(node, "on.merge_group", &["branches"])?;
                Some(MergeGroupTrigger { branches: self.globs(&fields, "branches") })
            }
        }
    }

    fn dispatch(&mut self, node: &Node) -> Option<Vec<String>> {
        match switch(node) {
            Switch::Off => None,
            Switch::On => Some(Vec::new()),
            Switch::Table(node) if node.table().is_some_and(|table| !table.entries.is_empty()) => {
                let fields = self.nested(node, "on.repository_dispatch", &["types"])?;
                Some(self.texts(&fields, "types").unwrap_or_default())
            }
            Switch::Table(node) => self.texts_of(node, "on.repository_dispatch"),
        }
    }

    /// A list of tables, or one table (known by the key it must have) instead of a list of one.
    fn one_or_many<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        mark: &str,
        read: fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let name = format!("on.{key}");
        if node.table().is_some_and(|table| !table.entries.is_empty()) {
            return read(self, node, &name).into_iter().collect();
        }
        let expected = format!("a table with '{mark}', or a list of such tables");
        let Some(items) = self.list(node, &name, &expected) else { return Vec::new() };
        items.iter().enumerate().filter_map(|(i, item)| read(self, item, &format!("{name}[{}]", i + 1))).collect()
    }

    fn schedule(&mut self, node: &Node, name: &str) -> Option<Schedule> {
        let fields = self.nested(node, name, &["cron", "timezone", "inputs", "catch_up"])?;
        let cron = self.required_text(&fields, "cron");
        if let (Some(Err(why)), Some(node)) = (cron.as_deref().map(crate::cron::parse), fields.get("cron")) {
            self.report(&node.at, "plan.cron", format!("{} is not a clock time: {why}.", fields.name("cron")));
        }
        let timezone = self.text(&fields, "timezone").unwrap_or_else(|| "UTC".into());
        if let (Err(_), Some(node)) = (timezone.parse::<chrono_tz::Tz>(), fields.get("timezone")) {
            let zones = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let hint = crate::suggest::nearest(&timezone, zones).map(|near| format!("Did you mean '{near}'?"));
            let text = format!("{} {} is not a time zone.", fields.name("timezone"), quoted(&timezone));
            self.report(&node.at, "plan.timezone", text).hint = hint;
        }
        let mut inputs = Map::new();
        if let Some(node) = fields.get("inputs")
            && let Some(entries) = self.entries(node, &fields.name("inputs"))
        {
            for entry in entries {
                if let Some(value) = self.json(&entry.value, &format!("{}.{}", fields.name("inputs"), entry.key)) {
                    inputs.insert(entry.key.clone(), value);
                }
            }
        }
        let catch_up = self.flag(&fields, "catch_up").unwrap_or(true);
        Some(Schedule { cron: cron?, timezone, inputs, catch_up })
    }

    fn comment(&mut self, node: &Node, name: &str) -> Option<CommentTrigger> {
        let fields = self.nested(node, name, &["command", "permission"])?;
        let command = self.required_text(&fields, "command");
        let permission = match fields.get("permission") {
            Some(node) => self.choice(node, &fields.name("permission"), &["read", "write", "admin"])?,
            None => "write".into(),
        };
        let command = command?;
        let word = command.strip_prefix('/').unwrap_or_default();
        let at = fields.get("command").map_or(fields.at, |node| &node.at);
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
        {
            let text = format!(
                "{} {} must be '/' and a lower-case word, such as '/bench'.",
                fields.name("command"),
                quoted(&command)
            );
            self.report(at, "plan.name", text);
        } else if OWN_COMMANDS.contains(&command.as_str()) {
            self.report(at, "plan.conflict", format!("{} is a command of Rivet itself.", quoted(&command)));
        }
        Some(CommentTrigger { command, permission })
    }

    fn globs(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<String>> {
        let node = fields.get(key)?;
        let name = fields.name(key);
        let items = self.list(node, &name, "a list of globs")?;
        let mut globs = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let Some(glob) = self.text_of(item, &format!("{name}[{}]", i + 1)) else { continue };
            if let Err(why) = crate::glob::check(&glob) {
                self.report(&item.at, "plan.glob", format!("{} in {name} is not a glob: {why}.", quoted(&glob)));
            }
            globs.push(glob);
        }
        Some(globs)
    }
}
