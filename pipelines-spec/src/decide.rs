//! Whether an event starts a pipeline, and the one sentence that says why or why not.
//!
//! Skip markers are not looked at here, because a commit status must never pass for one: see [`marked_to_skip`].

use crate::glob::Globs;
use crate::trigger::{
    CommentTrigger, EventFacts, EventKind, MergeGroupTrigger, PullRequestFacts, PullRequestTrigger, PushTrigger,
    Triggers,
};
use serde_json::Value;

/// What is known of the files an event changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed<'a> {
    /// All of them, as paths from the repository's root.
    Known(&'a [String]),
    /// They could not be told (too many, or the commit before is gone): path filters then let the pipeline run.
    Unknown,
}

/// Whether an event starts a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Run {
        /// One sentence: the rule that matched.
        because: String,
    },
    /// It does not.
    Skip {
        /// One sentence: the rule that did not match.
        because: String,
        /// Whether only the changed files stood against it: the pipeline is meant for this branch, so its required
        /// commit status still has to report.
        by_path: bool,
    },
}

impl Decision {
    /// Whether it runs.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Run { .. })
    }

    /// The sentence.
    pub fn because(&self) -> &str {
        match self {
            Self::Run { because } | Self::Skip { because, .. } => because,
        }
    }
}

fn run(because: impl Into<String>) -> Decision {
    Decision::Run { because: because.into() }
}

fn skip(because: impl Into<String>) -> Decision {
    Decision::Skip { because: because.into(), by_path: false }
}

/// The actions of a pull request that start a pipeline whose `on.pull_request.types` says nothing.
pub const PULL_REQUEST_TYPES: [&str; 4] = ["opened", "synchronize", "reopened", "ready_for_review"];

/// Whether `event` starts a pipeline with these triggers.
pub fn decide(on: &Triggers, event: &EventFacts, changed: Changed<'_>) -> Decision {
    let silent = on.is_silent();
    match event.name {
        EventKind::Push => match &on.push {
            Some(push) => decide_push(push, event, changed),
            None if silent => run("the file has no 'on', so every push starts it"),
            None => skip("on.push is not set"),
        },
        EventKind::PullRequest => match &on.pull_request {
            Some(rules) => decide_pull_request(rules, event, changed),
            None if silent => decide_pull_request(&PullRequestTrigger::default(), event, changed),
            None => skip("on.pull_request is not set"),
        },
        EventKind::MergeGroup => match &on.merge_group {
            Some(rules) => decide_merge_group(rules, event),
            None => skip("on.merge_group is not set"),
        },
        EventKind::Comment => match comment_trigger(on, event) {
            Some(rule) => run(format!("on.comment has the command '{}'", rule.command)),
            None => skip("no command of on.comment is the comment's"),
        },
        EventKind::Schedule => decide_schedule(on, event),
        EventKind::Manual if on.manual => run("on.manual allows it"),
        EventKind::Manual if silent => run("the file has no 'on', so people may launch it"),
        EventKind::Manual => skip("on.manual is not set, so nobody may launch it by hand"),
        EventKind::RepositoryDispatch => decide_dispatch(on, event),
        EventKind::Pipeline => run("a stage of another run started it"),
    }
}

/// Whether [`decide`] would look at the changed files, so that they have to be fetched.
pub fn needs_paths(on: &Triggers, event: &EventFacts) -> bool {
    let filters = match event.name {
        EventKind::Push => on.push.as_ref().and_then(|p| p.paths.as_ref()).is_some() && event.tag.is_none(),
        EventKind::PullRequest => on.pull_request.as_ref().and_then(|p| p.paths.as_ref()).is_some(),
        EventKind::MergeGroup
        | EventKind::Comment
        | EventKind::Schedule
        | EventKind::Manual
        | EventKind::RepositoryDispatch
        | EventKind::Pipeline => false,
    };
    // With no file known, only a pipeline that everything but the files lets in is held back by path.
    filters && matches!(decide(on, event, Changed::Known(&[])), Decision::Skip { by_path: true, .. })
}

impl Triggers {
    /// Whether the file says nothing of what starts it: then every push and pull request does, and people may.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// Whether people may launch it.
    pub fn allows_manual(&self) -> bool {
        self.manual || self.is_silent()
    }
}

fn decide_push(push: &PushTrigger, event: &EventFacts, changed: Changed<'_>) -> Decision {
    if let Some(tag) = &event.tag {
        return match (&push.tags, &push.branches) {
            (Some(tags), _) if lets_in(tags, tag) => run(format!("tag '{tag}' matches on.push.tags {}", show(tags))),
            (Some(tags), _) => skip(format!("no pipeline trigger matches tag '{tag}': on.push.tags is {}", show(tags))),
            (None, Some(_)) => skip(format!("tag '{tag}' was pushed, and on.push names branches only")),
            (None, None) => run(format!("tag '{tag}' was pushed, and on.push takes every tag")),
        };
    }
    let branch = event.branch.as_deref().unwrap_or(&event.git_ref);
    let because = match (&push.branches, &push.tags) {
        (Some(list), _) if lets_in(list, branch) => {
            format!("branch '{branch}' matches on.push.branches {}", show(list))
        }
        (Some(list), _) => {
            return skip(format!("no pipeline trigger matches branch '{branch}': on.push.branches is {}", show(list)));
        }
        (None, Some(_)) => return skip(format!("branch '{branch}' was pushed, and on.push names tags only")),
        (None, None) => format!("branch '{branch}' was pushed, and on.push takes every branch"),
    };
    by_path("on.push.paths", push.paths.as_deref(), because, changed)
}

fn decide_pull_request(rules: &PullRequestTrigger, event: &EventFacts, changed: Changed<'_>) -> Decision {
    if let Err(because) = action_fits(rules, event) {
        return skip(because);
    }
    let Some(pull) = &event.pull_request else {
        return skip("the event names no pull request");
    };
    if pull.draft && !rules.drafts {
        return skip(format!("pull request {} is a draft, and on.pull_request.drafts is false", pull.number));
    }
    if let Err(because) = labels_fit(rules, pull, event) {
        return skip(because);
    }
    let base = &pull.base;
    let because = match &rules.branches {
        Some(list) if lets_in(list, base) => {
            format!("base branch '{base}' matches on.pull_request.branches {}", show(list))
        }
        Some(list) => {
            return skip(format!(
                "no pipeline trigger matches base branch '{base}': on.pull_request.branches is {}",
                show(list)
            ));
        }
        None => format!("pull request {} into '{base}'", pull.number),
    };
    by_path("on.pull_request.paths", rules.paths.as_deref(), because, changed)
}

fn action_fits(rules: &PullRequestTrigger, event: &EventFacts) -> Result<(), String> {
    let Some(action) = event.action.as_deref() else { return Ok(()) };
    let fits = match &rules.types {
        Some(types) => types.iter().any(|t| t == action),
        // A label that is set later has to be able to start what asks for it.
        // `edited` only reaches here where the base branch changed: what was built is not what would be merged any more.
        None => {
            PULL_REQUEST_TYPES.contains(&action)
                || action == "edited"
                || (action == "labeled" && rules.labels.is_some())
        }
    };
    if fits {
        return Ok(());
    }
    let types = rules.types.clone().unwrap_or_else(|| PULL_REQUEST_TYPES.map(String::from).to_vec());
    Err(format!("action '{action}' is not one of on.pull_request.types {}", show(&types)))
}

fn labels_fit(rules: &PullRequestTrigger, pull: &PullRequestFacts, event: &EventFacts) -> Result<(), String> {
    let Some(wanted) = &rules.labels else { return Ok(()) };
    if !wanted.iter().any(|w| pull.labels.contains(w)) {
        return Err(format!(
            "pull request {} has none of the labels of on.pull_request.labels {}",
            pull.number,
            show(wanted)
        ));
    }
    let added = event.extra.get("label").and_then(Value::as_str);
    match added {
        Some(added) if event.action.as_deref() == Some("labeled") && !wanted.iter().any(|w| w == added) => {
            Err(format!("the label '{added}' that was added is not one of on.pull_request.labels {}", show(wanted)))
        }
        Some(_) | None => Ok(()),
    }
}

/// The verdict of the path filter on an event everything else lets in.
fn by_path(key: &str, paths: Option<&[String]>, because: String, changed: Changed<'_>) -> Decision {
    let Some(paths) = paths else { return run(because) };
    let files = match changed {
        Changed::Known(files) => files,
        Changed::Unknown => {
            return run(format!("{because}; which files changed is not known, so {key} is taken to match"));
        }
    };
    let found = Globs::new(paths).ok().and_then(|globs| files.iter().find(|f| globs.matches(f)));
    match found {
        Some(file) => run(format!("{because}, and changed file '{file}' matches {key} {}", show(paths))),
        None => {
            let many = match files.len() {
                1 => format!("the changed file '{}' does not match", files[0]),
                n => format!("none of {n} changed files matches"),
            };
            Decision::Skip { because: format!("{many} {key} {}", show(paths)), by_path: true }
        }
    }
}

fn decide_merge_group(rules: &MergeGroupTrigger, event: &EventFacts) -> Decision {
    let base = merge_base(event);
    match &rules.branches {
        None => run("on.merge_group takes every branch"),
        Some(list) if lets_in(list, &base) => {
            run(format!("base branch '{base}' matches on.merge_group.branches {}", show(list)))
        }
        Some(list) => {
            skip(format!("no pipeline trigger matches base branch '{base}': on.merge_group.branches is {}", show(list)))
        }
    }
}

/// The branch a merge queue merges into: a pull request's base, or what the forge called `base_ref`.
fn merge_base(event: &EventFacts) -> String {
    let named = event.extra.get("base_ref").and_then(Value::as_str);
    let base = event.pull_request.as_ref().map(|p| p.base.as_str()).or(named).or(event.branch.as_deref());
    let base = base.unwrap_or(&event.git_ref);
    base.strip_prefix("refs/heads/").unwrap_or(base).to_owned()
}

fn decide_schedule(on: &Triggers, event: &EventFacts) -> Decision {
    let fired = event.extra.get("cron").and_then(Value::as_str);
    let entry = on.schedule.iter().find(|s| fired.is_none_or(|cron| cron == s.cron));
    match (entry, fired) {
        (Some(entry), _) => run(format!("on.schedule has '{}' ({})", entry.cron, entry.timezone)),
        (None, Some(cron)) => skip(format!("on.schedule no longer has '{cron}'")),
        (None, None) => skip("on.schedule is not set"),
    }
}

fn decide_dispatch(on: &Triggers, event: &EventFacts) -> Decision {
    let kind = event.dispatch_type.as_deref().unwrap_or_default();
    match &on.repository_dispatch {
        None => skip("on.repository_dispatch is not set"),
        Some(types) if types.is_empty() => run("on.repository_dispatch takes every type"),
        Some(types) if types.iter().any(|t| t == kind) => {
            run(format!("type '{kind}' is one of on.repository_dispatch {}", show(types)))
        }
        Some(types) => skip(format!("type '{kind}' is not one of on.repository_dispatch {}", show(types))),
    }
}

/// The entry of `on.comment` whose command is the first word of the event's `extra.command`.
pub fn comment_trigger<'a>(on: &'a Triggers, event: &EventFacts) -> Option<&'a CommentTrigger> {
    let said = event.extra.get("command").and_then(Value::as_str)?.split_whitespace().next()?;
    on.comment.iter().find(|c| c.command == said)
}

fn lets_in(patterns: &[String], text: &str) -> bool {
    crate::glob::matches(patterns, text)
}

fn show(list: &[String]) -> String {
    format!("[{}]", list.join(", "))
}

const MARKERS: [&str; 5] = ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];

/// The words in a commit's message that ask for no run: one of five markers anywhere (in any case of letters), or the
/// trailer `skip-checks: true` in the last paragraph.
pub fn skip_marker(message: &str) -> Option<&str> {
    // Only ASCII changes, so the offsets stay those of the message.
    let lower = message.to_ascii_lowercase();
    let marker = MARKERS.iter().filter_map(|m| lower.find(m).map(|at| (at, m.len()))).min();
    marker.map(|(at, length)| &message[at..at + length]).or_else(|| skip_trailer(message))
}

fn skip_trailer(message: &str) -> Option<&str> {
    let text = message.trim_end();
    let mut lines: Vec<&str> = Vec::new();
    let mut ended_by_blank = false;
    for line in text.lines().rev() {
        if line.trim().is_empty() {
            ended_by_blank = true;
            break;
        }
        lines.push(line.trim());
    }
    // Without a blank line before it this is the subject, not a trailer.
    let trailers = lines.into_iter().filter(|_| ended_by_blank);
    trailers.into_iter().find(|line| {
        let (key, value) = line.split_once(':').unwrap_or_default();
        key.eq_ignore_ascii_case("skip-checks") && value.trim().eq_ignore_ascii_case("true")
    })
}

/// The marker by which an event's head commit asks for no run; only pushes and pull requests have such. A pull request's
/// required status must not pass for it: the change would open its own gate.
pub fn marked_to_skip(event: &EventFacts) -> Option<&str> {
    match event.name {
        EventKind::Push | EventKind::PullRequest => event.message.as_deref().and_then(skip_marker),
        EventKind::MergeGroup
        | EventKind::Comment
        | EventKind::Schedule
        | EventKind::Manual
        | EventKind::RepositoryDispatch
        | EventKind::Pipeline => None,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
