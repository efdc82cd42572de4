//! What a stage may know of its run, as environment variables.

use pipelines_spec::protocol::Job;
use std::collections::BTreeMap;
use std::path::Path;

/// The names of all variables [`environment`] may set. A program with settings under the same prefix ignores these.
pub const ENVIRONMENT: &[&str] = &[
    "RIVET_RUN_ID",
    "RIVET_RUN_NUMBER",
    "RIVET_RUN_URL",
    "RIVET_REPO",
    "RIVET_PIPELINE",
    "RIVET_STAGE",
    "RIVET_ATTEMPT",
    "RIVET_JOB_ID",
    "RIVET_EVENT",
    "RIVET_REF",
    "RIVET_SHA",
    "RIVET_BRANCH",
    "RIVET_TAG",
    "RIVET_ACTOR",
    "RIVET_PULL_REQUEST",
    "RIVET_WORKSPACE",
    crate::processes::MARK,
];

/// The facts of `job`, and `CI=true`. Values are data from outside: they are never part of a command's text.
pub fn environment(job: &Job, workspace: &Path) -> BTreeMap<String, String> {
    let event = &job.event;
    let facts = [
        ("CI", Some("true".to_owned())),
        ("RIVET_RUN_ID", Some(job.run.id.clone())),
        ("RIVET_RUN_NUMBER", Some(job.run.number.to_string())),
        ("RIVET_RUN_URL", Some(job.run.url.clone())),
        ("RIVET_REPO", Some(job.run.repo.clone())),
        ("RIVET_PIPELINE", Some(job.run.pipeline.clone())),
        ("RIVET_STAGE", Some(job.stage.clone())),
        ("RIVET_ATTEMPT", Some(job.attempt.to_string())),
        ("RIVET_JOB_ID", Some(job.id.clone())),
        ("RIVET_EVENT", Some(event.name.to_string())),
        ("RIVET_REF", Some(event.git_ref.clone())),
        ("RIVET_SHA", Some(event.sha.clone())),
        ("RIVET_BRANCH", event.branch.clone()),
        ("RIVET_TAG", event.tag.clone()),
        ("RIVET_ACTOR", Some(event.actor.clone())),
        ("RIVET_PULL_REQUEST", event.pull_request.as_ref().map(|pull| pull.number.to_string())),
        ("RIVET_WORKSPACE", Some(workspace.display().to_string())),
    ];
    let set = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.replace('\0', "\u{fffd}"))));
    let mut environment: BTreeMap<String, String> = set.collect();
    environment.extend(job.env.clone());
    environment
}
