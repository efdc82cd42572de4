//! Whether a push needs a run of its own, or whether the pull request (or the merge queue) it belongs to has one for the
//! same commit.

use crate::decide::{Changed, decide};
use crate::trigger::{EventFacts, EventKind, PullRequestFacts, Triggers};

/// The actions by which a pull request tells of a new head. Which of them tells of this one is not known to a push: the
/// pull request may have been opened before it or after it.
const NEW_HEAD: [&str; 2] = ["opened", "synchronize"];

/// Whether a pull request's own event starts the pipeline for the commit of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForPull {
    /// Whichever event tells of the commit.
    Always,
    /// Only one of them would: it has to be looked whether it did.
    Depends,
    /// None would.
    Never,
}

/// What `pull`'s events say to a commit that `push` brought. `changed` are the files the whole pull request changes.
pub fn for_pull(on: &Triggers, push: &EventFacts, pull: &PullRequestFacts, changed: Changed<'_>) -> ForPull {
    if on.push.as_ref().is_some_and(|rules| rules.with_pull_request) {
        return ForPull::Never;
    }
    let starts = NEW_HEAD.map(|action| decide(on, &as_pull(push, pull, action), changed).runs());
    match starts {
        [true, true] => ForPull::Always,
        [false, false] => ForPull::Never,
        [true, false] | [false, true] => ForPull::Depends,
    }
}

/// The facts a pull request's event of this action has for a pushed commit.
pub fn as_pull(push: &EventFacts, pull: &PullRequestFacts, action: &str) -> EventFacts {
    EventFacts {
        name: EventKind::PullRequest,
        action: Some(action.to_owned()),
        git_ref: format!("refs/pull/{}/head", pull.number),
        branch: Some(pull.head.clone()),
        before: None,
        forced: false,
        pull_request: Some(pull.clone()),
        ..push.clone()
    }
}

/// Whether this is the push of a merge queue's own branch of a pipeline that the queue's event starts anyway.
pub fn for_merge_group(on: &Triggers, push: &EventFacts) -> bool {
    let Some(branch) = push.branch.as_deref() else { return false };
    // `gh-readonly-queue/BASE/pr-N-SHA`
    let base = branch.strip_prefix("gh-readonly-queue/").and_then(|rest| rest.rsplit_once('/'));
    let Some((base, _)) = base else { return false };
    let extra = [("base_ref".to_owned(), format!("refs/heads/{base}").into())].into();
    let group = EventFacts { name: EventKind::MergeGroup, extra, ..push.clone() };
    decide(on, &group, Changed::Unknown).runs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(branch: &str) -> EventFacts {
        let facts = json!({ "name": "push", "repo": "acme/app", "default_branch": "main", "sha": "a",
            "ref": format!("refs/heads/{branch}"), "branch": branch });
        serde_json::from_value(facts).unwrap()
    }

    fn pull() -> PullRequestFacts {
        let facts = json!({ "number": 7, "base": "main", "base_sha": "b", "head": "topic", "head_sha": "a" });
        serde_json::from_value(facts).unwrap()
    }

    fn on(value: serde_json::Value) -> Triggers {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_push_is_left_to_the_pull_request_only_where_that_surely_runs() {
        let say = |value| for_pull(&on(value), &facts("topic"), &pull(), Changed::Unknown);
        assert_eq!(say(json!({})), ForPull::Always);
        assert_eq!(say(json!({ "push": {}, "pull_request": {} })), ForPull::Always);
        assert_eq!(say(json!({ "push": { "with_pull_request": true }, "pull_request": {} })), ForPull::Never);
        assert_eq!(say(json!({ "push": {} })), ForPull::Never);
        assert_eq!(say(json!({ "push": {}, "pull_request": { "branches": ["release/*"] } })), ForPull::Never);
        assert_eq!(say(json!({ "push": {}, "pull_request": { "types": ["opened"] } })), ForPull::Depends);
        assert_eq!(say(json!({ "push": {}, "pull_request": { "types": ["labeled"] } })), ForPull::Never);
    }

    #[test]
    fn a_filter_on_the_pull_requests_files_counts() {
        let rules = on(json!({ "push": {}, "pull_request": { "paths": ["src/**"] } }));
        let say = |files: &[String]| for_pull(&rules, &facts("topic"), &pull(), Changed::Known(files));
        assert_eq!(say(&["src/a".to_owned()]), ForPull::Always);
        assert_eq!(say(&["docs/a".to_owned()]), ForPull::Never);
    }

    #[test]
    fn a_merge_queues_branch_is_the_queues() {
        let queued = facts("gh-readonly-queue/release/1/pr-7-abc");
        let say = |value| for_merge_group(&on(value), &queued);
        assert!(say(json!({ "push": {}, "merge_group": {} })));
        assert!(say(json!({ "push": {}, "merge_group": { "branches": ["release/1"] } })));
        assert!(!say(json!({ "push": {}, "merge_group": { "branches": ["main"] } })));
        assert!(!say(json!({})));
        assert!(!for_merge_group(&on(json!({ "merge_group": {} })), &facts("topic")));
    }
}
