//! `rivet exec`: runs a pipeline from the working tree with the same engine and no server.
//!
//! The state machine, its store (an embedded database that is thrown away) and the runner's own way to do an attempt are those
//! of a server with one runner; only nobody listens on a port and the workspace is the working tree itself.

mod drive;
mod local;
mod secrets;

use super::definitions as files;
use super::event::{EventArgs, Pretended};
use super::git::WorkTree;
use super::inputs::{self, Given};
use super::plan::none_here;
use super::{Exit, Failure, follow, output};
use crate::definitions::{self, Defined, Refused, concrete};
use crate::evaluator::Evaluator;
use pipelines_spec::inputs::InputError;
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::{ExecutorKind, Sources};
use pipelines_spec::render::{Format, render};
use pipelines_spec::suggest::nearest;
use pipelines_spec::trigger::{Changed, EventFacts, EventKind, decide};
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// Arguments of `rivet exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline; may be left out where there is only one
    pipeline: Option<String>,
    /// Only this stage (with all its legs); again for more
    #[arg(long, value_name = "STAGE")]
    stage: Vec<String>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    event: EventArgs,
    /// A secret, read from the environment variable of its name
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// A file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// host runs everything on this machine, podman everything in containers; without it, each stage says
    #[arg(long, value_parser = executor_of)]
    executor: Option<ExecutorKind>,
    /// Let this stage through its gate; again for more
    #[arg(long, value_name = "STAGE")]
    approve: Vec<String>,
    /// Jobs at once
    #[arg(long, short, value_name = "N", default_value_t = default_slots(), value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// After a failure, open a shell in the working tree
    #[arg(short, long)]
    interactive: bool,
    /// Keep the run's records, and say where
    #[arg(long)]
    keep: bool,
    /// Print the run as JSON; what stages say goes to stderr
    #[arg(long)]
    json: bool,
}

fn executor_of(text: &str) -> Result<ExecutorKind, String> {
    match text.parse() {
        Ok(kind @ (ExecutorKind::Host | ExecutorKind::Podman)) => Ok(kind),
        Ok(ExecutorKind::Kubernetes) | Err(_) => Err("executors are host and podman".to_owned()),
    }
}

fn default_slots() -> u32 {
    std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(4).clamp(1, 4))
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let tree = WorkTree::here()?;
    let evaluator = Evaluator::default();
    let loaded = files::load(&tree.root)?;
    if loaded.sources.is_empty() && loaded.problems.is_empty() {
        return Err(none_here(&tree));
    }
    let event = args.event.pretend(&tree, None, EventKind::Push)?;
    let all = definitions::evaluate(&evaluator, &loaded.sources, &event.facts).await;
    let defined = chosen(all, args.pipeline.as_deref())?;
    let Some(pipeline) = readable(defined, &loaded.sources) else { return Ok(Exit::Failed) };
    let event = likely(event, &pipeline, args.event.event.is_some());
    let mut given = args.given.values()?;
    if output::may_prompt() {
        inputs::ask_for_missing(&pipeline.inputs, &mut given)?;
    }
    let plan = match concrete(&evaluator, &loaded.sources, &pipeline, &event.facts, &given).await {
        Ok(plan) => plan,
        Err(Refused::Inputs(errors)) => return Err(wrong_inputs(&errors)),
        Err(Refused::Definition(problems)) => return Ok(refused(&problems, &loaded.sources)),
    };
    let plan = adapted(plan, &args)?;
    let secrets = secrets::read(&tree, &args.secret, args.secrets_file.as_deref(), &plan)?;
    let setting = local::Setting { executor: args.executor, slots: args.jobs, root: tree.root.clone(), secrets };
    let local = local::Local::open(evaluator, setting, &plan).await?;
    let id = local.start(plan, &loaded.sources, event.facts).await?;
    let ended = drive::to_the_end(&local, &id, args.json).await;
    let ended = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            local.close(args.keep).await;
            return Err(failure);
        }
    };
    if args.json {
        output::print_json(&ended.run);
    }
    if args.interactive && ended.exit == Exit::Failed {
        shell(&tree);
    }
    local.close(args.keep).await;
    Ok(ended.exit)
}

fn chosen(mut all: Vec<Defined>, name: Option<&str>) -> Result<Defined, Failure> {
    let stems: Vec<String> = all.iter().map(|d| d.stem.clone()).collect();
    match name {
        Some(name) => match all.iter().position(|d| d.stem == name) {
            Some(index) => Ok(all.swap_remove(index)),
            None => Err(inputs::unknown_pipeline(name, &stems, "this repository")),
        },
        None if all.len() == 1 => Ok(all.swap_remove(0)),
        None => Err(Failure::usage(format!("which pipeline? there are {}", stems.join(", ")))),
    }
}

/// The pipeline; what is wrong with it was said.
fn readable(defined: Defined, sources: &Sources) -> Option<Pipeline> {
    if defined.problems.iter().any(Problem::is_error) || defined.pipeline.is_none() {
        refused(&defined.problems, sources);
        return None;
    }
    defined.pipeline
}

fn refused(problems: &[Problem], sources: &Sources) -> Exit {
    eprint!("{}", render(problems, sources, Format::Human, console::colors_enabled_stderr()));
    Exit::Failed
}

/// What a pipeline that no push starts is most likely started by. What the person named stays.
fn likely(mut event: Pretended, pipeline: &Pipeline, named: bool) -> Pretended {
    let starts = |facts: &EventFacts| decide(&pipeline.on, facts, Changed::Unknown).runs();
    if !named && !starts(&event.facts) {
        let manual = EventFacts { name: EventKind::Manual, ..event.facts.clone() };
        if starts(&manual) {
            event.facts = manual;
        }
    }
    event
}

fn wrong_inputs(errors: &[InputError]) -> Failure {
    let lines: Vec<&str> = errors.iter().map(|e| e.detail.as_str()).collect();
    Failure::usage(format!("{}\ngive inputs with -f NAME=VALUE", lines.join("\n")))
}

/// The plan as far as it was asked for, on the executor that was asked for.
fn adapted(mut plan: Plan, args: &Args) -> Result<Plan, Failure> {
    let bases: BTreeSet<String> = plan.stages.iter().map(|s| s.base.clone()).collect();
    for name in args.stage.iter().chain(&args.approve) {
        if !bases.contains(name) {
            let near = nearest(name, bases.iter().map(String::as_str));
            let hint = near.map(|n| format!("; did you mean '{n}'?")).unwrap_or_default();
            return Err(Failure::new(Exit::NotFound, format!("{} has no stage '{name}'{hint}", plan.pipeline)));
        }
    }
    if !args.stage.is_empty() {
        plan.stages.retain(|s| args.stage.contains(&s.base));
        for stage in &mut plan.stages {
            stage.stage.depends_on.retain(|base| args.stage.contains(base));
        }
    }
    for stage in &mut plan.stages {
        if args.executor == Some(ExecutorKind::Host) {
            stage.stage.container = None;
            stage.stage.services.clear();
        }
        if args.approve.contains(&stage.base) {
            stage.stage.approval = None;
        }
    }
    Ok(plan)
}

/// A shell where the stage failed, for a person to look around.
fn shell(tree: &WorkTree) {
    if !std::io::stdin().is_terminal() {
        return;
    }
    let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "sh".into());
    output::note("a shell in the working tree; leave it with `exit`");
    if let Err(error) = std::process::Command::new(&shell).current_dir(&tree.root).status() {
        output::warn(&format!("{} cannot be started: {error}", shell.display()));
    }
}

/// How a local run ended.
struct Ended {
    run: super::client::Run,
    exit: Exit,
}

impl Ended {
    fn of(run: super::client::Run, interrupted: bool, gated: bool) -> Self {
        let exit = match (interrupted, gated) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Unfinished,
            (false, false) => follow::outcome(&run),
        };
        Self { run, exit }
    }
}
