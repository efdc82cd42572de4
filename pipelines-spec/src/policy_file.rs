//! The text of a policy: read strictly, with everything that is wrong told at once.

use crate::glob::Globs;
use crate::plan::Label;
use crate::policy::{Limits, Policy, Protected, unknown};
use crate::problem::Problem;
use crate::protocol::ExecutorKind;
use crate::raw::{Node, Raw, Table};
use crate::toml_front;

/// Reads the text of the file called `file`.
pub(crate) fn read(file: &str, text: &str) -> Result<Policy, Vec<Problem>> {
    let root = toml_front::read(file, text).map_err(|problem| vec![problem])?;
    let mut reader = Reader { problems: vec![] };
    let policy = reader.policy(&root);
    if reader.problems.is_empty() { Ok(policy) } else { Err(reader.problems) }
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn wrong(&mut self, node: &Node, what: &str, must: &str) {
        let text = format!("{what} must be {must}, got {}.", node.describe());
        self.problems.push(Problem::error("policy.value", text).at(node.at.clone()));
    }

    /// The entries of a table, unknown keys told.
    fn table<'n>(&mut self, node: &'n Node, owner: &str, known: &[&str]) -> Option<&'n Table> {
        let Some(table) = node.table().filter(|table| table.items.is_empty()) else {
            self.wrong(node, owner, "a table");
            return None;
        };
        for entry in table.entries.iter().filter(|entry| !known.is_empty() && !known.contains(&entry.key.as_str())) {
            self.problems.push(unknown(&entry.key, known, owner, &entry.at));
        }
        Some(table)
    }

    fn policy(&mut self, root: &Node) -> Policy {
        let mut policy = Policy::default();
        let Some(table) = self.table(root, "the policy", &["pull_requests", "environments"]) else { return policy };
        if let Some(node) = table.get("pull_requests") {
            policy.pull_requests = self.limits(node);
        }
        if let Some(environments) = table.get("environments").and_then(|node| self.table(node, "[environments]", &[])) {
            for entry in &environments.entries {
                let protected = self.protected(&entry.key, &entry.value);
                policy.environments.insert(entry.key.clone(), protected);
            }
        }
        policy
    }

    fn limits(&mut self, node: &Node) -> Limits {
        let known = ["runners", "executors", "secrets", "environments"];
        let Some(table) = self.table(node, "[pull_requests]", &known) else { return Limits::default() };
        Limits {
            runners: self.each(table, "pull_requests.runners", "'key=value' labels", |text| {
                let (key, value) = text.split_once('=')?;
                let label = Label { key: key.to_owned(), value: value.to_owned() };
                (!key.is_empty() && !value.is_empty()).then_some(label)
            }),
            executors: self.each(table, "pull_requests.executors", "'host', 'podman' or 'kubernetes'", |text| {
                text.parse::<ExecutorKind>().ok()
            }),
            secrets: self.each(table, "pull_requests.secrets", "names of secrets", named),
            environments: self.each(table, "pull_requests.environments", "names of environments", named),
        }
    }

    fn protected(&mut self, name: &str, node: &Node) -> Protected {
        let owner = format!("[environments.{name}]");
        let known = ["reviewers", "count", "prevent_self", "branches"];
        let Some(table) = self.table(node, &owner, &known) else { return Protected::default() };
        let key = |key: &str| format!("environments.{name}.{key}");
        let reviewers = self.each(table, &key("reviewers"), "logins, groups or '@org/team's", |text| {
            crate::validate::is_reviewer(text).then(|| text.to_owned())
        });
        let branches = self.each(table, &key("branches"), "globs", |text| {
            Globs::new(&[text.to_owned()]).ok().map(|_| text.to_owned())
        });
        let prevent_self = table.get("prevent_self").and_then(|node| match &node.value {
            Raw::Bool(yes) => Some(*yes),
            _ => {
                self.wrong(node, &key("prevent_self"), "true or false");
                None
            }
        });
        Protected {
            reviewers: reviewers.unwrap_or_default(),
            count: table.get("count").and_then(|node| self.count(node, &key("count"))),
            prevent_self,
            branches,
        }
    }

    fn count(&mut self, node: &Node, what: &str) -> Option<u32> {
        match &node.value {
            Raw::Number(number) if number.fract() == 0.0 && (1.0..=100.0).contains(number) => Some(*number as u32),
            _ => {
                self.wrong(node, what, "a whole number from 1 to 100");
                None
            }
        }
    }

    /// A list whose members are read one by one.
    fn each<T>(&mut self, table: &Table, what: &str, of: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        let node = table.get(what.rsplit('.').next().unwrap_or(what))?;
        let must = format!("a list of {of}");
        let Some(list) = node.table().filter(|list| list.entries.is_empty()) else {
            self.wrong(node, what, &must);
            return None;
        };
        let mut all = vec![];
        for item in &list.items {
            match &item.value {
                Raw::Text(text) => match read(text) {
                    Some(value) => all.push(value),
                    None => self.wrong(item, what, &must),
                },
                _ => self.wrong(item, what, &must),
            }
        }
        Some(all)
    }
}

fn named(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= 200).then(|| text.to_owned())
}
