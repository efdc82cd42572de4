//! What the App asks of GitHub, and why: one table that the set-up page shows, the manifest is made from, and the App that
//! is really there is compared with.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One permission.
#[derive(Debug, PartialEq, Eq)]
pub struct Permission {
    /// GitHub's name of it in manifests and answers.
    pub name: &'static str,
    /// What GitHub's pages call it.
    pub label: &'static str,
    /// `read` or `write`.
    pub access: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// What does not work without it.
    pub without: &'static str,
    /// Whether nothing works without it.
    pub essential: bool,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// GitHub's name of it.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// What does not work without it.
    pub without: &'static str,
    /// Whether nothing works without it.
    pub essential: bool,
}

const fn permission(
    (name, label): (&'static str, &'static str),
    access: &'static str,
    why: &'static str,
    without: &'static str,
    essential: bool,
) -> Permission {
    Permission { name, label, access, why, without, essential }
}

const fn event(name: &'static str, why: &'static str, without: &'static str, essential: bool) -> Event {
    Event { name, why, without, essential }
}

/// Every permission, the essential ones first.
pub const PERMISSIONS: &[Permission] = &[
    permission(
        ("metadata", "Metadata"),
        "read",
        "Names of repositories, and what a person may do there, asked whenever somebody approves.",
        "Nobody's permission can be asked, so nobody can approve.",
        true,
    ),
    permission(
        ("contents", "Contents"),
        "read",
        "Reads .rivet/ at the commit; runners fetch the commit with a token for that one repository.",
        "No pipeline is found and no commit can be fetched.",
        true,
    ),
    permission(
        ("checks", "Checks"),
        "write",
        "Shows every stage as a check run, with its result, annotations and buttons.",
        "No check run is shown.",
        true,
    ),
    permission(
        ("statuses", "Commit statuses"),
        "write",
        "Sets one status for each pipeline, which branch protection can require.",
        "No rivet/PIPELINE status is set; branches that require it cannot be merged.",
        true,
    ),
    permission(
        ("pull_requests", "Pull requests"),
        "write",
        "Reads head, base and author of pull requests; answers comment commands there.",
        "Pull requests start nothing.",
        true,
    ),
    permission(
        ("issues", "Issues"),
        "write",
        "Reads comments, where commands are written, and puts a receipt on them.",
        "Comment commands such as /approve are not answered.",
        false,
    ),
    permission(
        ("deployments", "Deployments"),
        "write",
        "Shows what stages with an environment deployed.",
        "Deployments are not shown on GitHub; they work all the same.",
        false,
    ),
    permission(
        ("members", "Members (organisation)"),
        "read",
        "Tells who is in a team that is named as reviewer.",
        "A team (@org/team) as reviewer approves nothing.",
        false,
    ),
    permission(
        ("merge_queues", "Merge queues"),
        "read",
        "Hears that a merge queue asks for checks.",
        "Merge queues wait for checks that never come.",
        false,
    ),
];

/// Every event the App has to be subscribed to. GitHub sends those of installations without being asked.
pub const EVENTS: &[Event] = &[
    event("push", "Commits and tags start pipelines.", "Pushes start nothing.", true),
    event("pull_request", "Pull requests start pipelines.", "Pull requests start nothing.", true),
    event("check_run", "Buttons of check runs: Re-run, Approve, Cancel.", "Buttons of check runs do nothing.", false),
    event("check_suite", "Re-run all checks.", "Re-running all checks does nothing.", false),
    event("issue_comment", "Comment commands such as /approve and /retry.", "Comment commands do nothing.", false),
    event("merge_group", "Merge queues ask for checks.", "Merge queues wait for checks that never come.", false),
    event("repository", "Renames and transfers are followed.", "Renames are noticed at the next push only.", false),
    event(
        "repository_dispatch",
        "Other programs start pipelines through GitHub.",
        "repository_dispatch starts nothing.",
        false,
    ),
];

/// One thing the App lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// `Checks: write (it has none)`, `event push`.
    pub what: String,
    /// What does not work.
    pub without: &'static str,
    /// Whether nothing works.
    pub essential: bool,
}

/// What is missing from these permissions and events; the essential first.
pub fn lacking(permissions: &BTreeMap<String, String>, events: &[String]) -> Vec<Lack> {
    let mut lacks = lacking_permissions(permissions);
    lacks.extend(lacking_events(events));
    lacks.sort_by_key(|lack| !lack.essential);
    lacks
}

/// What is missing from these events; the essential first.
pub fn lacking_events(events: &[String]) -> Vec<Lack> {
    let missing = EVENTS.iter().filter(|wanted| !events.iter().any(|event| event == wanted.name));
    let lack = |event: &Event| Lack { what: event.name.to_owned(), without: event.without, essential: event.essential };
    missing.map(lack).collect()
}

/// What is missing from these permissions alone: an installation's may lag behind the App's.
pub fn lacking_permissions(permissions: &BTreeMap<String, String>) -> Vec<Lack> {
    let mut lacks = vec![];
    for wanted in PERMISSIONS {
        let given = permissions.get(wanted.name).map_or("none", String::as_str);
        let enough = match wanted.access {
            "read" => matches!(given, "read" | "write" | "admin"),
            _ => matches!(given, "write" | "admin"),
        };
        if !enough {
            let what = format!("{}: {} (it has {given})", wanted.label, wanted.access);
            lacks.push(Lack { what, without: wanted.without, essential: wanted.essential });
        }
    }
    lacks
}

/// The manifest an App called `name` is made from. `public` (without a slash at its end) is this instance's address.
pub fn manifest(name: &str, public: &str) -> Value {
    let permissions: BTreeMap<&str, &str> = PERMISSIONS.iter().map(|p| (p.name, p.access)).collect();
    let events: Vec<&str> = EVENTS.iter().map(|event| event.name).collect();
    json!({
        "name": name,
        "url": public,
        "description": "Runs the pipelines under .rivet/ and shows their results as checks.",
        "hook_attributes": { "url": format!("{public}/webhooks/github"), "active": true },
        "redirect_url": format!("{public}/setup/created"),
        "setup_url": format!("{public}/setup"),
        "public": false,
        "default_permissions": permissions,
        "default_events": events,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_made_from_the_manifest_lacks_nothing() {
        let made = manifest("rivet", "https://ci.example.com");
        let permissions = serde_json::from_value(made["default_permissions"].clone()).unwrap();
        let events: Vec<String> = serde_json::from_value(made["default_events"].clone()).unwrap();
        assert_eq!(lacking(&permissions, &events), vec![]);
        assert_eq!(made["public"], false);
    }

    #[test]
    fn what_is_lacking_is_named_with_what_does_not_work() {
        let permissions = [("metadata", "read"), ("contents", "write"), ("checks", "read"), ("statuses", "write")];
        let permissions = permissions.map(|(name, access)| (name.to_owned(), access.to_owned())).into();
        let events = EVENTS.iter().map(|e| e.name.to_owned()).filter(|name| name != "push").collect::<Vec<_>>();
        let said: Vec<String> =
            lacking(&permissions, &events).iter().map(|lack| format!("{}: {}", lack.what, lack.without)).collect();
        insta::assert_snapshot!(said.join("\n"), @"
        Checks: write (it has read): No check run is shown.
        Pull requests: write (it has none): Pull requests start nothing.
        push: Pushes start nothing.
        Issues: write (it has none): Comment commands such as /approve are not answered.
        Deployments: write (it has none): Deployments are not shown on GitHub; they work all the same.
        Members (organisation): read (it has none): A team (@org/team) as reviewer approves nothing.
        Merge queues: read (it has none): Merge queues wait for checks that never come.
        ");
    }
}
