//! `rivet check`: what is wrong with definitions, all of it at once, without running anything.

use super::definitions as files;
use super::event::EventArgs;
use super::git::WorkTree;
use super::plan::none_here;
use super::{Exit, Failure, output};
use crate::definitions::{self, Defined};
use crate::evaluator::Evaluator;
use crate::forge::Loaded;
use pipelines_spec::plan::Pipeline;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Sources;
use pipelines_spec::render::{Format, render};
use pipelines_spec::trigger::{EventFacts, EventKind};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Arguments of `rivet check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, or folders with a .rivet; - reads one Lua file from standard input. Without any: this repository
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// human, json, github or sarif
    #[arg(long, default_value = "human", value_parser = format_of)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

fn format_of(text: &str) -> Result<Format, String> {
    text.parse().map_err(|_| "formats are human, json, github and sarif".to_owned())
}

/// What was checked.
#[derive(Default)]
struct Checked {
    sources: Sources,
    problems: Vec<Problem>,
    good: Vec<(String, Pipeline)>,
}

/// What one path means.
struct Meant {
    tree: WorkTree,
    loaded: Loaded,
    /// Only this file of it; `None`: every pipeline.
    only: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let paths = if args.paths.is_empty() { vec![WorkTree::here()?.root] } else { args.paths };
    let evaluator = Evaluator::default();
    let mut checked = Checked::default();
    for path in &paths {
        let meant = meaning(path)?;
        if meant.loaded.sources.is_empty() && meant.loaded.problems.is_empty() {
            return Err(none_here(&meant.tree));
        }
        check(&evaluator, meant, &mut checked).await?;
    }
    checked.problems.sort_by(|a, b| a.at.cmp(&b.at));
    checked.problems.dedup();
    let format = if args.json { Format::Json } else { args.format };
    let colour = format == Format::Human && console::colors_enabled();
    output::print_data(&render(&checked.problems, &checked.sources, format, colour));
    if format == Format::Human {
        sum_up(&checked);
    }
    Ok(if checked.problems.iter().any(Problem::is_error) { Exit::Failed } else { Exit::Done })
}

/// The definitions a path stands for.
fn meaning(path: &Path) -> Result<Meant, Failure> {
    if path == Path::new("-") {
        let mut bytes = vec![];
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|e| Failure::usage(format!("standard input cannot be read: {e}")))?;
        return Ok(alone(WorkTree::here()?, "stdin.lua", &bytes));
    }
    let wrong = |e: std::io::Error| Failure::new(Exit::NotFound, format!("{}: {e}", path.display()));
    let whole = path.canonicalize().map_err(wrong)?;
    if whole.is_dir() {
        let inside = whole.file_name().is_some_and(|name| name == ".rivet");
        let root = if inside { whole.parent().unwrap_or(&whole) } else { &whole };
        let tree = WorkTree { root: root.to_owned() };
        return Ok(Meant { loaded: files::load(&tree.root)?, tree, only: None });
    }
    let folder = whole.ancestors().find(|f| f.file_name().is_some_and(|n| n == ".rivet"));
    let Some(root) = folder.and_then(Path::parent) else {
        let bytes = std::fs::read(&whole).map_err(wrong)?;
        return Ok(alone(WorkTree::of(whole.parent().unwrap_or(&whole)), &path.to_string_lossy(), &bytes));
    };
    let file = whole.strip_prefix(root).unwrap_or(&whole).to_string_lossy().into_owned();
    let loaded = files::load(root)?;
    // A module is checked through the pipelines that use it.
    let only = definitions::is_pipeline(&file).then_some(file);
    Ok(Meant { tree: WorkTree { root: root.to_owned() }, loaded, only })
}

/// A file that belongs to no repository.
fn alone(tree: WorkTree, name: &str, bytes: &[u8]) -> Meant {
    let mut loaded = Loaded::default();
    crate::forge::tree::add(&mut loaded, name, bytes);
    Meant { tree, loaded, only: Some(name.to_owned()) }
}

async fn check(evaluator: &Evaluator, meant: Meant, checked: &mut Checked) -> Result<(), Failure> {
    let Meant { tree, loaded, only } = meant;
    let event = EventArgs::default().pretend(&tree, None, EventKind::Push)?.facts;
    let wanted = |file: &str| only.as_ref().is_none_or(|only| only == file);
    let meant = |p: &Problem| p.at.as_ref().is_none_or(|at| wanted(&at.file));
    checked.problems.extend(loaded.problems.into_iter().filter(meant));
    let mut all = definitions::evaluate(evaluator, &loaded.sources, &event).await;
    all.retain(|defined| wanted(&defined.file));
    if let Some(file) = only.filter(|file| !definitions::is_pipeline(file) && loaded.sources.contains_key(file)) {
        all.push(definitions::evaluate_one(evaluator, &loaded.sources, &file, &event).await);
    }
    for defined in all {
        judge(defined, &event, checked);
    }
    checked.sources.extend(loaded.sources);
    Ok(())
}

/// Adds what is wrong with one file, also what only shows once it is made concrete.
fn judge(defined: Defined, event: &EventFacts, checked: &mut Checked) {
    let mut problems = defined.problems;
    if let Some(pipeline) = defined.pipeline.filter(|_| !problems.iter().any(Problem::is_error)) {
        let mut event = event.clone();
        event.name = likely(&pipeline);
        // Inputs a person has to give, and what only a pull request knows, are not known here.
        if event.name != EventKind::PullRequest
            && let Ok(inputs) = pipelines_spec::inputs::parse(&pipeline.inputs, &serde_json::Map::new())
            && let Err(found) = pipelines_spec::instantiate::instantiate(&pipeline, &event, inputs)
        {
            problems.extend(found);
        }
        if !problems.iter().any(Problem::is_error) {
            checked.good.push((defined.file, pipeline));
        }
    }
    checked.problems.extend(problems);
}

/// The kind of event that most likely starts the pipeline.
fn likely(pipeline: &Pipeline) -> EventKind {
    let on = &pipeline.on;
    if on.push.is_some() || on.is_silent() {
        EventKind::Push
    } else if on.pull_request.is_some() {
        EventKind::PullRequest
    } else {
        EventKind::Manual
    }
}

fn sum_up(checked: &Checked) {
    for (file, pipeline) in &checked.good {
        let stages = pipeline.stages.len();
        let plural = if stages == 1 { "" } else { "s" };
        let sign = output::colour("succeeded").for_stderr().apply_to("✓");
        let (stem, file) = (output::clean(&pipeline.stem), output::clean(file));
        output::note(&format!("{sign} {stem} ({file}): {stages} stage{plural}"));
    }
    let errors = checked.problems.iter().filter(|p| p.is_error()).count();
    let warnings = checked.problems.len() - errors;
    let counted = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        n => Some(format!("{n} {noun}s")),
    };
    let found: Vec<String> = [counted(errors, "error"), counted(warnings, "warning")].into_iter().flatten().collect();
    if !found.is_empty() {
        output::note(&found.join(", "));
    }
}
