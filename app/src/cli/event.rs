//! The event that local commands pretend: made from the working tree, changed by what the person says.

use super::Failure;
use super::git::WorkTree;
use pipelines_spec::trigger::{EventFacts, EventKind, PullRequestFacts};
use serde_json::Value;
use std::collections::BTreeMap;
use strum::IntoEnumIterator as _;

/// Which event to pretend.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EventArgs {
    /// Its kind, or a file.
    #[arg(
        long,
        value_name = "EVENT|FILE",
        help = "push, pull_request, manual, … or a JSON file with fields of the event; made from the working tree"
    )]
    pub event: Option<String>,
}

/// An event and the files it changed.
#[derive(Debug, Clone)]
pub struct Pretended {
    /// The event.
    pub facts: EventFacts,
    /// The files; `None`: unknown.
    pub changed: Option<Vec<String>>,
}

const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl EventArgs {
    /// The event, of kind `otherwise` where the person says nothing, at `git_ref` or the working tree as it is.
    pub fn pretend(&self, tree: &WorkTree, git_ref: Option<&str>, otherwise: EventKind) -> Result<Pretended, Failure> {
        let Some(text) = &self.event else { return pretend(tree, git_ref, otherwise) };
        if let Ok(kind) = text.parse::<EventKind>() {
            return pretend(tree, git_ref, kind);
        }
        let looks_like_a_file = text.contains(['/', '.']) || std::path::Path::new(text).exists();
        if !looks_like_a_file {
            let all: Vec<String> = EventKind::iter().map(|k| k.to_string()).collect();
            let near = pipelines_spec::suggest::nearest(text, all.iter().map(String::as_str));
            let hint = near.map(|n| format!(" did you mean '{n}'?")).unwrap_or_default();
            return Err(Failure::usage(format!(
                "--event {text}: there is no such event or file;{hint} events are {}",
                all.join(", ")
            )));
        }
        let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("--event {text}: {e}"));
        let fields: serde_json::Map<String, Value> =
            serde_json::from_str(&std::fs::read_to_string(text).map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        let kind = match fields.get("name") {
            Some(name) => serde_json::from_value(name.clone()).map_err(|e| wrong(&e))?,
            None => otherwise,
        };
        let made = pretend(tree, git_ref, kind)?;
        let mut whole = serde_json::to_value(&made.facts).map_err(|e| wrong(&e))?;
        if let Value::Object(whole) = &mut whole {
            whole.extend(fields);
        }
        let facts = serde_path_to_error::deserialize(whole).map_err(|e| wrong(&e))?;
        Ok(Pretended { facts, changed: made.changed })
    }
}

/// An event of `kind` as the working tree would cause it.
fn pretend(tree: &WorkTree, git_ref: Option<&str>, kind: EventKind) -> Result<Pretended, Failure> {
    let revision = git_ref.unwrap_or("HEAD");
    let sha = tree.commit(revision);
    if git_ref.is_some() && sha.is_none() {
        return Err(Failure::usage(format!("--ref {revision}: git knows no such branch, tag or commit")));
    }
    let full = match git_ref {
        Some(name) => tree.full_ref(name).unwrap_or_else(|| name.to_owned()),
        None => format!("refs/heads/{}", tree.branch().unwrap_or_else(|| tree.default_branch())),
    };
    let base = tree.base(revision);
    let changed = match (&base, git_ref, &sha) {
        (Some(base), Some(_), Some(sha)) => tree.changed_between(base, sha),
        (Some(base), _, _) => tree.changed_files(base),
        (None, _, _) => None,
    };
    let sha = sha.unwrap_or_else(|| NO_COMMIT.to_owned());
    let mut facts = EventFacts {
        name: kind,
        action: None,
        repo: tree.repo().unwrap_or_else(|| local_name(tree)),
        default_branch: tree.default_branch(),
        branch: full.strip_prefix("refs/heads/").map(str::to_owned),
        tag: full.strip_prefix("refs/tags/").map(str::to_owned),
        git_ref: full,
        sha,
        before: base,
        forced: false,
        actor: tree.user(),
        message: tree.message_of(revision),
        pull_request: None,
        dispatch_type: None,
        extra: BTreeMap::new(),
    };
    if kind == EventKind::PullRequest {
        as_pull_request(&mut facts);
    }
    Ok(Pretended { facts, changed })
}

/// The branch as a pull request into the default branch.
fn as_pull_request(facts: &mut EventFacts) {
    let head = facts.branch.clone().unwrap_or_else(|| facts.git_ref.clone());
    facts.action = Some("synchronize".to_owned());
    facts.git_ref = "refs/pull/1/head".to_owned();
    facts.pull_request = Some(PullRequestFacts {
        number: 1,
        title: facts.message.as_deref().and_then(|m| m.lines().next()).unwrap_or_default().to_owned(),
        author: facts.actor.clone(),
        base: facts.default_branch.clone(),
        base_sha: facts.before.clone().unwrap_or_else(|| facts.sha.clone()),
        head,
        head_sha: facts.sha.clone(),
        merge_sha: None,
        draft: false,
        fork: false,
        labels: vec![],
    });
}

fn local_name(tree: &WorkTree) -> String {
    let folder = tree.root.file_name().map(|n| n.to_string_lossy().into_owned());
    format!("local/{}", folder.unwrap_or_else(|| "work".to_owned()))
}
