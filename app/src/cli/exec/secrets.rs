//! Secrets of a local run: named on the command line, never written there.

use crate::cli::git::WorkTree;
use crate::cli::{Failure, output};
use pipelines_spec::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Secrets by name, by the stage (as the file names it) that may read them.
pub type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// The secrets the plan's stages name, from the environment and a file; a missing one is an error that names it.
pub fn read(tree: &WorkTree, names: &[String], file: Option<&Path>, plan: &Plan) -> Result<Secrets, Failure> {
    let mut all = match file {
        Some(path) => from_file(tree, path)?,
        None => BTreeMap::new(),
    };
    for name in names {
        let value = std::env::var(name)
            .map_err(|_| Failure::usage(format!("--secret {name}: there is no environment variable of that name")))?;
        all.insert(name.clone(), value);
    }
    let wanted: BTreeSet<&String> = plan.stages.iter().flat_map(|s| &s.stage.secrets).collect();
    let missing: Vec<&str> = wanted.iter().filter(|name| !all.contains_key(**name)).map(|name| name.as_str()).collect();
    if !missing.is_empty() {
        let message = format!(
            "stages need secrets that were not given: {}\ngive them with --secret NAME (from the environment) or --secrets-file FILE",
            missing.join(", ")
        );
        return Err(Failure::usage(message));
    }
    let of = |names: &[String]| names.iter().filter_map(|n| Some((n.clone(), all.get(n)?.clone()))).collect();
    Ok(plan.stages.iter().map(|s| (s.base.clone(), of(&s.stage.secrets))).collect())
}

fn from_file(tree: &WorkTree, path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("--secrets-file {place}: {e}")))?;
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if tree.is_tracked(&whole) {
        output::warn(&format!("{place} is tracked by git: whoever reads the repository reads these secrets"));
    }
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret, so it is not shown.
        let wrong = || Failure::usage(format!("--secrets-file {place}: line {} is not NAME=VALUE", number + 1));
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
        all.insert(name.trim().to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(all)
}
