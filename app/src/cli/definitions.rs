//! The definitions of a working tree or one of its commits, evaluated.

use super::Failure;
use super::git::WorkTree;
use crate::evaluator::Evaluator;
use crate::forge::Loaded;
use crate::forge::tree::{self, Entry};
use pipelines_spec::evaluate::{Answer, Question, Request};
use pipelines_spec::plan::{Action, Pipeline};
use pipelines_spec::problem::{Location, Problem};
use pipelines_spec::protocol::Sources;
use pipelines_spec::suggest::nearest;
use pipelines_spec::trigger::EventFacts;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// One file that defines a pipeline.
#[derive(Debug, Clone)]
pub struct Defined {
    /// Its path from the root.
    pub file: String,
    /// The name the pipeline is known by.
    pub stem: String,
    /// What it defines, where it can be read.
    pub pipeline: Option<Pipeline>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// The definition files under `root/.rivet`, committed or not, by the rules for those of a commit.
pub fn load(root: &Path) -> Result<Loaded, Failure> {
    let mut entries = vec![];
    walk(root, Path::new(tree::FOLDER), &mut entries)
        .map_err(|e| Failure::failed(format!("{}: {e}", root.join(tree::FOLDER).display())))?;
    let mut loaded = Loaded::default();
    if let [only] = entries.as_slice()
        && only.path == tree::FOLDER
    {
        loaded.problems.extend(tree::folder_problem(only));
        return Ok(loaded);
    }
    let (files, problems) = tree::choose(&entries);
    loaded.problems = problems;
    for file in files {
        let bytes = std::fs::read(root.join(&file.path)).map_err(|e| Failure::failed(format!("{}: {e}", file.path)))?;
        tree::add(&mut loaded, &file.path, &bytes);
    }
    Ok(loaded)
}

/// The definition files at a commit.
pub fn load_commit(tree: &WorkTree, commit: &str) -> Result<Loaded, Failure> {
    let unreadable = || Failure::failed(format!("git cannot read .rivet at {commit}"));
    let entries = tree.entries(commit, ".rivet/").ok_or_else(unreadable)?;
    let mut loaded = Loaded::default();
    let (files, problems) = tree::choose(&entries);
    loaded.problems = problems;
    for file in files {
        tree::add(&mut loaded, &file.path, &tree.blob(&file.sha).ok_or_else(unreadable)?);
    }
    Ok(loaded)
}

/// Every file under `path`, links not followed.
fn walk(root: &Path, path: &Path, entries: &mut Vec<Entry>) -> std::io::Result<()> {
    let facts = match root.join(path).symlink_metadata() {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if facts.is_dir() {
        let mut names: Vec<_> = std::fs::read_dir(root.join(path))?.collect::<Result<_, _>>()?;
        names.sort_by_key(std::fs::DirEntry::file_name);
        return names.iter().try_for_each(|name| walk(root, &path.join(name.file_name()), entries));
    }
    let mode = match (facts.is_symlink(), facts.permissions().mode() & 0o100 != 0) {
        (true, _) => "120000",
        (false, true) => "100755",
        (false, false) => "100644",
    };
    let path = path.to_string_lossy().into_owned();
    entries.push(Entry { path, mode: mode.to_owned(), sha: String::new(), size: Some(facts.len()) });
    Ok(())
}

/// Whether a file defines a pipeline: directly under `.rivet/`, so not in its library.
pub fn is_pipeline(path: &str) -> bool {
    let name = path.strip_prefix(".rivet/").filter(|rest| !rest.contains('/'));
    name.is_some_and(|name| name.ends_with(".lua") || name.ends_with(".toml"))
}

/// Evaluates every file that defines a pipeline, and checks what takes more than one of them to see.
pub async fn evaluate(evaluator: &Evaluator, sources: &Sources, event: &EventFacts) -> Vec<Defined> {
    let files: Vec<String> = sources.keys().filter(|file| is_pipeline(file)).cloned().collect();
    let mut all =
        futures::future::join_all(files.iter().map(|file| evaluate_one(evaluator, sources, file, event))).await;
    check_together(&mut all);
    all
}

/// Evaluates one file.
pub async fn evaluate_one(evaluator: &Evaluator, sources: &Sources, file: &str, event: &EventFacts) -> Defined {
    let request =
        Request { sources: sources.clone(), file: file.to_owned(), event: event.clone(), question: Question::Pipeline };
    let response = evaluator.ask(&request).await;
    let pipeline = match response.answer {
        Some(Answer::Pipeline { pipeline }) => Some(*pipeline),
        Some(Answer::Condition { .. } | Answer::Axes { .. } | Answer::Validate { .. }) | None => None,
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned();
    Defined { file: file.to_owned(), stem, pipeline, problems: response.problems }
}

/// Two files of one name, and stages that are pipelines which do not exist.
fn check_together(all: &mut [Defined]) {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for defined in all.iter_mut() {
        if let Some(other) = first.insert(defined.stem.clone(), defined.file.clone()) {
            let message = format!("{other} and {} define the same pipeline '{}'", defined.file, defined.stem);
            let at = Location::line(&defined.file, 1);
            defined
                .problems
                .push(Problem::error("config.duplicate_pipeline", message).at(at).hint("rename one of them"));
        }
    }
    let stems: Vec<String> = first.into_keys().collect();
    for defined in all.iter_mut() {
        let Some(pipeline) = &defined.pipeline else { continue };
        for stage in &pipeline.stages {
            let Action::Pipeline { pipeline: child, .. } = &stage.action else { continue };
            if child.contains("${") || stems.contains(child) {
                continue;
            }
            let message = format!("stage '{}' runs pipeline '{child}', which does not exist", stage.name);
            let mut problem = Problem::error("plan.unknown_pipeline", message).at(stage.at.clone());
            if let Some(near) = nearest(child, stems.iter().map(String::as_str)) {
                problem = problem.hint(format!("did you mean '{near}'?"));
            }
            defined.problems.push(problem);
        }
    }
}
