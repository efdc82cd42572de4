//! The definition files of a working tree or one of its commits, read by the rules for those of a forge.

use super::Failure;
use super::git::WorkTree;
use crate::forge::Loaded;
use crate::forge::tree::{self, Entry};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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
