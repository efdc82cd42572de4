//! From an event to runs: the definitions at the commit are read and evaluated, each pipeline is decided about in one
//! sentence, and what starts is made concrete. No transaction is open meanwhile; recording is the last step.

use crate::context::Context;
use crate::definitions::{self, Defined, Refused, Usable, concrete};
use crate::forge::{Forge, ForgeError, Trigger};
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::problem::{Location, Problem};
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{self, Changed, Decision, EventFacts, EventKind};
use serde_json::{Map, Value};

/// What became of one file for one event.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The pipeline's stem.
    pub pipeline: String,
    /// What.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub because: String,
}

/// What became of one file.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It starts with this plan.
    Start(Box<Plan>),
    /// It does not start.
    Skip {
        /// Whether only its path filter stood against it: it is meant for this commit, so its status has to report.
        by_path: bool,
        /// Whether the commit's own message asked for it.
        by_marker: bool,
    },
    /// It could not be looked at.
    Broken,
}

/// What an event comes to.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The definition files at the commit.
    pub sources: Sources,
    /// One for each pipeline.
    pub verdicts: Vec<Verdict>,
    /// What is wrong with the definitions.
    pub problems: Vec<Problem>,
}

/// Reads and evaluates the definitions at the event's commit and decides about each.
pub async fn plan(context: &Context, forge: &Forge, trigger: &Trigger) -> Result<Planned, ForgeError> {
    let loaded = forge.sources(&trigger.repo, &trigger.facts.sha).await?;
    let all = definitions::evaluate(&context.evaluator, &loaded.sources, &trigger.facts).await;
    let mut planned = Planned { sources: loaded.sources, verdicts: vec![], problems: loaded.problems };
    let mut changed: Option<Option<Vec<String>>> = None;
    for (stem, definition) in by_stem(all) {
        let verdict = match definition {
            Ok((pipeline, warnings)) => {
                planned.problems.extend(warnings);
                if changed.is_none() && trigger::needs_paths(&pipeline.on, &trigger.facts) {
                    changed = Some(forge.changed_files(&trigger.repo, &trigger.facts).await?);
                }
                let files = match &changed {
                    Some(Some(files)) => Changed::Known(files),
                    Some(None) | None => Changed::Unknown,
                };
                about(context, &planned.sources, &pipeline, &trigger.facts, files, &mut planned.problems).await
            }
            Err(problems) => {
                let because = broken(&problems);
                planned.problems.extend(problems);
                Verdict { pipeline: stem, outcome: Outcome::Broken, because }
            }
        };
        planned.verdicts.push(verdict);
    }
    Ok(planned)
}

/// One pipeline and one event.
async fn about(
    context: &Context,
    sources: &Sources,
    pipeline: &Pipeline,
    facts: &EventFacts,
    changed: Changed<'_>,
    problems: &mut Vec<Problem>,
) -> Verdict {
    let verdict = |outcome, because: String| Verdict { pipeline: pipeline.stem.clone(), outcome, because };
    let because = match trigger::decide(&pipeline.on, facts, changed) {
        Decision::Run { because } => because,
        Decision::Skip { because, by_path } => return verdict(Outcome::Skip { by_path, by_marker: false }, because),
    };
    if let Some(marker) = trigger::marked_to_skip(facts) {
        let because = format!("the commit's message says '{marker}'");
        return verdict(Outcome::Skip { by_path: false, by_marker: true }, because);
    }
    match concrete(&context.evaluator, sources, pipeline, facts, &given_by(pipeline, facts)).await {
        Ok(plan) => verdict(Outcome::Start(Box::new(plan)), because),
        Err(Refused::Inputs(errors)) => {
            let at = Location::line(&pipeline.file, 1);
            let found = errors.iter().map(|e| Problem::error(&e.code, &e.detail).at(at.clone()));
            let found: Vec<Problem> = found.collect();
            let because = broken(&found);
            problems.extend(found);
            verdict(Outcome::Broken, because)
        }
        Err(Refused::Definition(found)) => {
            let because = broken(&found);
            problems.extend(found);
            verdict(Outcome::Broken, because)
        }
    }
}

/// The inputs an event brings along: a clock entry's own; everything else takes the defaults.
fn given_by(pipeline: &Pipeline, facts: &EventFacts) -> Map<String, Value> {
    let cron = facts.extra.get("cron").and_then(Value::as_str);
    let entry =
        pipeline.on.schedule.iter().find(|s| facts.name == EventKind::Schedule && Some(s.cron.as_str()) == cron);
    entry.map(|entry| entry.inputs.clone()).unwrap_or_default()
}

/// The definitions by stem. Where several files share one, its pipeline is none of theirs.
fn by_stem(all: Vec<Defined>) -> Vec<(String, Usable)> {
    let mut found: Vec<(String, Usable)> = vec![];
    for defined in all {
        let stem = defined.stem.clone();
        match (found.last_mut(), defined.usable()) {
            (Some((last, Err(known))), Err(more)) if *last == stem => {
                known.extend(more.into_iter().filter(|problem| !known.contains(problem)).collect::<Vec<_>>());
            }
            (_, usable) => found.push((stem, usable)),
        }
    }
    found
}

fn broken(problems: &[Problem]) -> String {
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.is_error()).collect();
    match errors.as_slice() {
        [] => "the definition could not be evaluated".to_owned(),
        [one] => format!("the definition has an error: {one}"),
        [first, rest @ ..] => format!("the definition has {} errors, first: {first}", rest.len() + 1),
    }
}
