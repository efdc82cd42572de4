//! From an event to runs: the definitions at the commit are read and evaluated, each pipeline is decided about in one
//! sentence, and what starts is made concrete. No transaction is open meanwhile; recording is the last step.

use super::inquiry::{Compared, Inquiry, Patience, builds_merge, by_stem, short, unmerged};
use super::policies::Changed;
use super::prepare::{Build, NotDecided, Ready};
use super::required::{BaseSays, required};
use crate::context::Context;
use crate::definitions::{self, Refused, concrete};
use crate::forge::Forge;
use crate::store::reports::StatusState;
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::problem::{Location, Problem};
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{self, Decision, EventFacts, EventKind};
use serde_json::{Map, Value};

/// What became of one pipeline for one event.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The pipeline's stem.
    pub pipeline: String,
    /// What.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub because: String,
    /// What its required status says, where no run speaks for it.
    pub required: Option<(StatusState, String)>,
    /// Whether it builds a pull request's head although there is a test merge: its definition is the head's too.
    pub at_head: bool,
    /// Whether what a push of the same commit started, and nobody has begun, gives way to it.
    pub takes_over: bool,
    /// Whether the change it comes from edits its definition, which could make it skip everything.
    pub unproven: bool,
}

/// What became of one pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It starts with this plan.
    Start(Box<Plan>),
    /// It does not start.
    Skip(Skip),
    /// It could not be looked at.
    Broken,
    /// The change removes it.
    Removed,
}

/// Why a pipeline does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It is not meant for the event.
    NotMeant,
    /// It is, and no file it watches changed.
    Path,
    /// The commit's own message asked for it.
    Marker,
    /// There is no test merge to build.
    Conflict,
    /// Another event runs it for this commit.
    Elsewhere,
    /// Its branch has gone on, and only the newest commit counts.
    Superseded,
}

/// What an event comes to.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The definition files at the commit that is built.
    pub sources: Sources,
    /// Those of a pull request's head, where a pipeline builds that.
    pub head_sources: Option<Sources>,
    /// Those of the base branch, where they were looked at and differ.
    pub base_sources: Option<Sources>,
    /// One for each pipeline.
    pub verdicts: Vec<Verdict>,
    /// What is wrong with the definitions.
    pub problems: Vec<Problem>,
    /// What a pull request changes about them.
    pub changed: Changed,
}

/// Reads and evaluates the definitions at the event's commit and decides about each.
pub async fn plan(context: &Context, forge: &Forge, ready: &Ready, patience: Patience) -> Result<Planned, NotDecided> {
    let inquiry = Inquiry::new(context, forge, ready, patience);
    let facts = &ready.trigger.facts;
    let loaded = forge.sources(&ready.trigger.repo, facts.build_sha()).await?;
    let all = definitions::evaluate(&context.evaluator, &loaded.sources, facts).await;
    let mut planned = Planned { sources: loaded.sources, problems: loaded.problems, ..Planned::default() };
    for (stem, definition) in by_stem(all) {
        let verdict = match definition {
            Ok((pipeline, warnings)) => {
                planned.problems.extend(warnings);
                let takes_over = !pipeline.on.push.as_ref().is_some_and(|rules| rules.with_pull_request);
                Verdict { takes_over, ..Box::pin(about(&inquiry, &mut planned, &pipeline)).await? }
            }
            Err(problems) => refused(&stem, problems, &mut planned.problems),
        };
        planned.verdicts.push(verdict);
    }
    Box::pin(compare(&inquiry, &mut planned)).await?;
    Ok(planned)
}

fn verdict(pipeline: &str, outcome: Outcome, because: impl Into<String>) -> Verdict {
    let pipeline = pipeline.to_owned();
    Verdict {
        pipeline,
        outcome,
        because: because.into(),
        required: None,
        at_head: false,
        takes_over: false,
        unproven: false,
    }
}

fn refused(stem: &str, found: Vec<Problem>, problems: &mut Vec<Problem>) -> Verdict {
    let because = broken(&found);
    problems.extend(found);
    verdict(stem, Outcome::Broken, because)
}

/// One pipeline and one event.
async fn about(inquiry: &Inquiry<'_>, planned: &mut Planned, pipeline: &Pipeline) -> Result<Verdict, NotDecided> {
    let facts = inquiry.facts();
    let skip = |skip, because: String| Ok(verdict(&pipeline.stem, Outcome::Skip(skip), because));
    let because = match inquiry.decide(pipeline).await? {
        Decision::Run { because } => because,
        Decision::Skip { because, by_path: true } => return skip(Skip::Path, because),
        Decision::Skip { because, by_path: false } => return skip(Skip::NotMeant, because),
    };
    if let Some(marker) = trigger::marked_to_skip(facts) {
        return skip(Skip::Marker, format!("the commit's message says '{marker}'"));
    }
    if let Some(because) = Box::pin(inquiry.elsewhere(pipeline)).await? {
        return skip(Skip::Elsewhere, because);
    }
    match (&inquiry.ready.build, builds_merge(pipeline)) {
        (Build::Merge, false) => Box::pin(start_at_head(inquiry, planned, pipeline, because)).await,
        (Build::Conflict, true) => {
            let base = facts.pull_request.as_ref().map(|pull| pull.base.as_str()).unwrap_or_default();
            skip(Skip::Conflict, format!("conflicts with base '{base}'"))
        }
        (build, _) => {
            let because = format!("{because}{}", built(build, facts));
            let sources = planned.sources.clone();
            Box::pin(start(inquiry, &sources, pipeline, facts, because, &mut planned.problems)).await
        }
    }
}

/// What is built for a pull request, as the end of a sentence.
fn built(build: &Build, facts: &EventFacts) -> String {
    match build {
        Build::Commit => String::new(),
        Build::Merge => format!("; its test merge {} is built", short(facts.build_sha())),
        Build::Head(why) => format!("; the head is built, because {why}"),
        Build::Moved(to) => format!("; this head is built, because the pull request is at {} by now", short(to)),
        Build::Conflict => "; the head is built, as on.pull_request.merge is false".to_owned(),
    }
}

/// A pipeline that builds the head is made from the head's definition.
async fn start_at_head(
    inquiry: &Inquiry<'_>,
    planned: &mut Planned,
    pipeline: &Pipeline,
    because: String,
) -> Result<Verdict, NotDecided> {
    let (sources, definitions) = inquiry.at_head().await?;
    planned.head_sources = Some(sources.clone());
    let facts = unmerged(inquiry.facts());
    let because = format!("{because}; the head is built, as on.pull_request.merge is false");
    let made = match definitions.get(&pipeline.stem) {
        Some(Ok((own, _))) => start(inquiry, sources, own, &facts, because, &mut planned.problems).await?,
        Some(Err(found)) => refused(&pipeline.stem, found.clone(), &mut planned.problems),
        None => verdict(&pipeline.stem, Outcome::Broken, "the head, which it builds, does not define it"),
    };
    Ok(Verdict { at_head: true, ..made })
}

async fn start(
    inquiry: &Inquiry<'_>,
    sources: &Sources,
    pipeline: &Pipeline,
    facts: &EventFacts,
    because: String,
    problems: &mut Vec<Problem>,
) -> Result<Verdict, NotDecided> {
    let evaluator = &inquiry.context.evaluator;
    let plan = match concrete(evaluator, sources, pipeline, facts, &given_by(pipeline, facts)).await {
        Ok(plan) => plan,
        Err(Refused::Inputs(errors)) => {
            let at = Location::line(&pipeline.file, 1);
            let found = errors.iter().map(|e| Problem::error(&e.code, &e.detail).at(at.clone()));
            return Ok(refused(&pipeline.stem, found.collect(), problems));
        }
        Err(Refused::Definition(found)) => return Ok(refused(&pipeline.stem, found, problems)),
    };
    Ok(match inquiry.superseded(&plan).await? {
        Some(because) => verdict(&pipeline.stem, Outcome::Skip(Skip::Superseded), because),
        None => verdict(&pipeline.stem, Outcome::Start(Box::new(plan)), because),
    })
}

/// Holds every verdict against the base branch's definitions: what a skip proves, and what the change takes away.
async fn compare(inquiry: &Inquiry<'_>, planned: &mut Planned) -> Result<(), NotDecided> {
    let event = inquiry.facts().name;
    let whole = matches!(event, EventKind::PullRequest | EventKind::MergeGroup);
    let mut verdicts = std::mem::take(&mut planned.verdicts);
    for verdict in &mut verdicts {
        let mut says = None;
        if (whole || matters(verdict))
            && let Some(base) = inquiry.base(&planned.sources).await?
        {
            says = Some(match base {
                Compared::Same => as_base(&verdict.outcome),
                Compared::Differ(_, definitions) => inquiry.base_says(definitions.get(&verdict.pipeline)).await?,
            });
            verdict.unproven = is_unproven(verdict, planned, base);
        }
        verdict.required = required(event, &verdict.outcome, &verdict.because, says);
    }
    if whole && let Some(Compared::Differ(sources, definitions)) = inquiry.base(&planned.sources).await? {
        planned.base_sources = Some(sources.clone());
        for (stem, definition) in definitions {
            if verdicts.iter().all(|verdict| verdict.pipeline != *stem) {
                verdicts.extend(removed(inquiry, stem, definition).await?);
            }
        }
    }
    planned.verdicts = verdicts;
    Ok(())
}

/// Whether a push's verdict takes the default branch's definitions to be judged.
fn matters(verdict: &Verdict) -> bool {
    match &verdict.outcome {
        Outcome::Skip(Skip::Path) => true,
        Outcome::Start(plan) => may_skip_everything(plan),
        Outcome::Skip(_) | Outcome::Broken | Outcome::Removed => false,
    }
}

/// What the base says where its definition is the one that was just asked.
fn as_base(outcome: &Outcome) -> BaseSays {
    match outcome {
        Outcome::Skip(Skip::Path) => BaseSays::ByPath,
        Outcome::Skip(Skip::NotMeant) => BaseSays::NotMeant,
        Outcome::Broken => BaseSays::Broken,
        Outcome::Removed => BaseSays::Absent,
        Outcome::Start(_) | Outcome::Skip(Skip::Marker | Skip::Conflict | Skip::Elsewhere | Skip::Superseded) => {
            BaseSays::Runs
        }
    }
}

/// Whether every stage that begins by itself has a condition, or axes that may turn out empty.
fn may_skip_everything(plan: &Plan) -> bool {
    let mut first = plan.stages.iter().filter(|planned| planned.stage.depends_on.is_empty());
    first.all(|planned| planned.stage.condition.is_some() || planned.dynamic.is_some())
}

fn is_unproven(verdict: &Verdict, planned: &Planned, base: &Compared) -> bool {
    let (Outcome::Start(plan), Compared::Differ(theirs, _)) = (&verdict.outcome, base) else { return false };
    let own = if verdict.at_head { planned.head_sources.as_ref() } else { Some(&planned.sources) };
    let of = |sources: &Sources| part_of(sources, &verdict.pipeline);
    may_skip_everything(plan) && own.map(of) != Some(of(theirs))
}

/// The files a pipeline is made of: its own, and those that any may load.
fn part_of(sources: &Sources, stem: &str) -> Sources {
    let part = |path: &str| !definitions::is_pipeline(path) || definitions::stem_of(path) == stem;
    sources.iter().filter(|(path, _)| part(path)).map(|(path, text)| (path.clone(), text.clone())).collect()
}

/// A pipeline the base branch has for this event and the change has not.
async fn removed(
    inquiry: &Inquiry<'_>,
    stem: &str,
    definition: &definitions::Usable,
) -> Result<Option<Verdict>, NotDecided> {
    let says = inquiry.base_says(Some(definition)).await?;
    if !matches!(says, BaseSays::Runs | BaseSays::ByPath) {
        return Ok(None);
    }
    let mut made = verdict(stem, Outcome::Removed, "this change removes the pipeline, which the base branch has");
    made.required = required(inquiry.facts().name, &made.outcome, &made.because, Some(says));
    Ok(Some(made))
}

/// The inputs an event brings along: a clock entry's own; everything else takes the defaults.
fn given_by(pipeline: &Pipeline, facts: &EventFacts) -> Map<String, Value> {
    let cron = facts.extra.get("cron").and_then(Value::as_str);
    let entry =
        pipeline.on.schedule.iter().find(|s| facts.name == EventKind::Schedule && Some(s.cron.as_str()) == cron);
    entry.map(|entry| entry.inputs.clone()).unwrap_or_default()
}

fn broken(problems: &[Problem]) -> String {
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.is_error()).collect();
    match errors.as_slice() {
        [] => "the definition could not be evaluated".to_owned(),
        [one] => format!("the definition has an error: {one}"),
        [first, rest @ ..] => format!("the definition has {} errors, first: {first}", rest.len() + 1),
    }
}
