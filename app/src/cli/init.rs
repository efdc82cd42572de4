//! `rivet init`: the first pipeline of a repository, and what editors need.

use super::git::WorkTree;
use super::{Exit, Failure, output};
use pipelines_spec::stubs;
use serde_json::{Map, Value};
use std::path::Path;
use strum::IntoEnumIterator as _;

/// Arguments of `rivet init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// What the pipeline begins with; without it, what the repository's files suggest
    #[arg(long, value_parser = template_of)]
    template: Option<Template>,
    /// Overwrite files that are there
    #[arg(long, global = true)]
    force: bool,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write editor stubs and settings: completion and types in every Lua editor
    Lua,
}

/// What a pipeline can begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Template {
    /// Cargo.
    Rust,
    /// npm.
    Node,
    /// Python's own tools.
    Python,
    /// Go's own tools.
    Go,
    /// Nothing in particular.
    Plain,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Rust => include_str!("init/rust.lua"),
            Self::Node => include_str!("init/node.lua"),
            Self::Python => include_str!("init/python.lua"),
            Self::Go => include_str!("init/go.lua"),
            Self::Plain => include_str!("init/plain.lua"),
        }
    }

    /// What the files at the top of a repository suggest.
    fn for_files_in(root: &Path) -> Self {
        let signs = [
            (Self::Rust, &["Cargo.toml"][..]),
            (Self::Go, &["go.mod"]),
            (Self::Node, &["package.json"]),
            (Self::Python, &["pyproject.toml", "setup.py", "requirements.txt"]),
        ];
        let found = signs.into_iter().find(|(_, files)| files.iter().any(|f| root.join(f).is_file()));
        found.map_or(Self::Plain, |(template, _)| template)
    }
}

fn template_of(text: &str) -> Result<Template, String> {
    let all: Vec<String> = Template::iter().map(|t| t.to_string()).collect();
    text.parse().map_err(|_| format!("templates are {}", all.join(", ")))
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let root = WorkTree::here()?.root;
    let written = match &args.what {
        Some(What::Lua) => {
            // Both are made by Rivet; what others put into the settings stays.
            write(&root, stubs::STUBS_PATH, &stubs::stubs(), true)?;
            write(&root, stubs::SETTINGS_PATH, &merged_settings(&root)?, true)?;
            vec![stubs::STUBS_PATH, stubs::SETTINGS_PATH]
        }
        None => {
            let template = args.template.unwrap_or_else(|| Template::for_files_in(&root));
            write(&root, ".rivet/ci.lua", template.text(), args.force)?;
            output::note(&format!("template: {template} (another: --template NAME)"));
            vec![".rivet/ci.lua"]
        }
    };
    if args.json {
        output::print_json(&serde_json::json!({ "written": written }));
    } else {
        written.iter().for_each(|path| output::print_data(&format!("{path}\n")));
        output::note(match args.what {
            Some(What::Lua) => "editors with lua-language-server or EmmyLua now complete and check definitions",
            None => "next: `rivet check`, then `rivet exec ci`; `rivet init lua` helps your editor",
        });
    }
    Ok(Exit::Done)
}

fn write(root: &Path, path: &str, text: &str, overwrite: bool) -> Result<(), Failure> {
    let file = root.join(path);
    if file.symlink_metadata().is_ok() && !overwrite {
        return Err(Failure::failed(format!("{path} is there already\noverwrite it with --force")));
    }
    let failed = |e: std::io::Error| Failure::failed(format!("{path} cannot be written: {e}"));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(&file, text).map_err(failed)
}

/// The settings, merged into those that are there: lists are united, whatever else somebody chose stays.
fn merged_settings(root: &Path) -> Result<String, Failure> {
    let ours: Map<String, Value> =
        serde_json::from_str(&stubs::settings()).map_err(|e| Failure::failed(format!("the settings: {e}")))?;
    let path = root.join(stubs::SETTINGS_PATH);
    let theirs = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str::<Map<String, Value>>(&text).map_err(|e| {
            let path = stubs::SETTINGS_PATH;
            Failure::failed(format!("{path} is not plain JSON ({e})\nmove it away, or take the comments out of it"))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
    };
    Ok(format!("{:#}\n", Value::Object(merge(theirs, ours))))
}

fn merge(mut theirs: Map<String, Value>, ours: Map<String, Value>) -> Map<String, Value> {
    for (key, our) in ours {
        match (theirs.get_mut(&key), our) {
            (Some(Value::Array(there)), Value::Array(new)) => {
                for item in new {
                    if !there.contains(&item) {
                        there.push(item);
                    }
                }
            }
            (Some(Value::Object(there)), Value::Object(new)) => *there = merge(std::mem::take(there), new),
            (Some(_), _) => {}
            (None, our) => drop(theirs.insert(key, our)),
        }
    }
    theirs
}
