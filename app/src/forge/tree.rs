//! Which files of a commit are definitions, and what may be wrong with them: the same rules for every forge.

use super::Loaded;
use pipelines_spec::problem::{Location, Problem};
use std::collections::BTreeMap;

/// The folder definitions live in.
pub const FOLDER: &str = ".rivet";
/// The most definition files.
pub const MAX_FILES: usize = 64;
/// The most bytes of one.
pub const MAX_FILE_BYTES: u64 = 256 << 10;
/// The most bytes of all together.
pub const MAX_TOTAL_BYTES: u64 = 1 << 20;
/// What a file kept by Git LFS begins with.
const LFS_MARK: &[u8] = b"version https://git-lfs.github.com/spec/";

/// An entry of a git tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the repository's root.
    pub path: String,
    /// Git's mode: `100644`, `100755`, `120000` (a link), `160000` (a submodule), `040000` (a folder).
    pub mode: String,
    /// The object's id.
    pub sha: String,
    /// Bytes, for files.
    pub size: Option<u64>,
}

impl Entry {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        matches!(self.mode.as_str(), "040000" | "40000")
    }

    fn is_definition(&self) -> bool {
        let in_stubs = self.path.starts_with(".rivet/stubs/");
        let ends = |ending: &str| self.path.len() > ending.len() && self.path.ends_with(ending);
        !in_stubs && (ends(".lua") || ends(".toml"))
    }

    fn what_else(&self) -> Option<&'static str> {
        match self.mode.as_str() {
            "120000" => Some("a symbolic link"),
            "160000" => Some("a submodule"),
            _ => None,
        }
    }
}

/// What is wrong with `.rivet` itself, if it is not a folder.
pub fn folder_problem(entry: &Entry) -> Option<Problem> {
    if entry.is_folder() {
        return None;
    }
    Some(not_a_file(FOLDER, entry.what_else().unwrap_or("a file"), "Rivet reads a folder of that name"))
}

/// The forge does not list all of the folder: what was left out might matter, so nothing is believed.
pub fn truncated() -> Problem {
    Problem::error("config.too_large", "the forge does not list every file under .rivet/: there are too many")
        .hint("keep nothing but definitions there")
}

/// The definition files among the entries under `.rivet/`, or everything that is wrong with them. With a problem no file
/// is chosen that has one; too many or too much of them leave none.
pub fn choose(entries: &[Entry]) -> (Vec<&Entry>, Vec<Problem>) {
    let (mut files, mut problems) = (vec![], vec![]);
    let mut by_lower = BTreeMap::<String, &str>::new();
    for entry in entries.iter().filter(|e| !e.is_folder()) {
        // A link may stand for a folder of definitions, so it is looked at whatever its name.
        if let Some(what) = entry.what_else() {
            problems.push(not_a_file(&entry.path, what, "Rivet reads regular files only"));
            continue;
        }
        if !entry.is_definition() {
            continue;
        }
        if let Some(other) = by_lower.insert(entry.path.to_lowercase(), &entry.path) {
            let message = format!("{other} and {} differ only by the case of their letters", entry.path);
            problems.push(Problem::error("config.case_collision", message).at(Location::line(&entry.path, 1)));
        }
        match entry.size {
            Some(size) if size > MAX_FILE_BYTES => problems.push(too_large(&entry.path, size)),
            _ => files.push(entry),
        }
    }
    if files.len() > MAX_FILES {
        let message = format!(".rivet/ has {} definition files; the limit is {MAX_FILES}", files.len());
        problems.push(Problem::error("config.too_large", message));
        files.clear();
    }
    let total: u64 = files.iter().filter_map(|e| e.size).sum();
    if total > MAX_TOTAL_BYTES {
        let message = format!("the definitions have {total} bytes together; the limit is {MAX_TOTAL_BYTES}");
        problems.push(Problem::error("config.too_large", message));
        files.clear();
    }
    (files, problems)
}

/// Adds a file's bytes as text, or what is wrong with them.
pub fn add(loaded: &mut Loaded, path: &str, bytes: &[u8]) {
    let at = Location::line(path, 1);
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return loaded.problems.push(too_large(path, bytes.len() as u64));
    }
    if bytes.starts_with(LFS_MARK) {
        return loaded.problems.push(not_a_file(path, "a Git LFS pointer", "Rivet reads regular files only"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            loaded.sources.insert(path.to_owned(), text.to_owned());
        }
        Err(error) => {
            let offset = error.valid_up_to();
            let message = format!("byte 0x{:02x} at offset {offset} is not UTF-8", bytes[offset]);
            loaded.problems.push(Problem::error("config.encoding", message).at(at));
        }
    }
}

fn not_a_file(path: &str, what: &str, reads: &str) -> Problem {
    Problem::error("config.not_a_file", format!("{path} is {what}; {reads}")).at(Location::line(path, 1))
}

fn too_large(path: &str, size: u64) -> Problem {
    let message = format!("{path} is {size} bytes; the limit is {MAX_FILE_BYTES}");
    Problem::error("config.too_large", message).at(Location::line(path, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, mode: &str, size: u64) -> Entry {
        Entry { path: path.to_owned(), mode: mode.to_owned(), sha: String::new(), size: Some(size) }
    }

    fn said(entries: &[Entry]) -> String {
        let (files, problems) = choose(entries);
        let mut lines: Vec<String> = files.iter().map(|f| f.path.clone()).collect();
        lines.extend(problems.iter().map(|p| format!("{}: {}", p.code, p.message)));
        lines.join("\n")
    }

    #[test]
    fn what_is_no_regular_file_is_named() {
        insta::assert_snapshot!(said(&[
            entry(".rivet/ci.lua", "100644", 10),
            entry(".rivet/CI.lua", "100644", 10),
            entry(".rivet/lib", "040000", 0),
            entry(".rivet/lib/x.lua", "120000", 9),
            entry(".rivet/more", "160000", 0),
            entry(".rivet/notes.md", "100644", 1 << 30),
            entry(".rivet/stubs/rivet.lua", "100644", 1 << 30),
            entry(".rivet/deploy.toml", "100755", 262_144),
            entry(".rivet/huge.toml", "100644", 262_145),
        ]), @"
        .rivet/ci.lua
        .rivet/CI.lua
        .rivet/deploy.toml
        config.case_collision: .rivet/ci.lua and .rivet/CI.lua differ only by the case of their letters
        config.not_a_file: .rivet/lib/x.lua is a symbolic link; Rivet reads regular files only
        config.not_a_file: .rivet/more is a submodule; Rivet reads regular files only
        config.too_large: .rivet/huge.toml is 262145 bytes; the limit is 262144
        ");
    }

    #[test]
    fn the_limits_are_exact() {
        let files =
            |n: usize, size| (0..n).map(|i| entry(&format!(".rivet/{i}.lua"), "100644", size)).collect::<Vec<_>>();
        assert_eq!(choose(&files(64, 1)).1, vec![]);
        insta::assert_snapshot!(said(&files(65, 1)), @"config.too_large: .rivet/ has 65 definition files; the limit is 64");
        assert_eq!(choose(&files(4, 262_144)).1, vec![]);
        let mut over = files(4, 262_144);
        over.push(entry(".rivet/x.lua", "100644", 1));
        insta::assert_snapshot!(said(&over), @"config.too_large: the definitions have 1048577 bytes together; the limit is 1048576");
    }

    #[test]
    fn text_is_utf8_and_no_pointer() {
        let mut loaded = Loaded::default();
        add(&mut loaded, ".rivet/a.lua", b"return 1");
        add(&mut loaded, ".rivet/b.lua", b"return \xff");
        add(&mut loaded, ".rivet/c.lua", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
        let problems: Vec<String> = loaded.problems.iter().map(|p| format!("{}: {}", p.code, p.message)).collect();
        assert_eq!(loaded.sources.keys().collect::<Vec<_>>(), [".rivet/a.lua"]);
        insta::assert_snapshot!(problems.join("\n"), @"
        config.encoding: byte 0xff at offset 7 is not UTF-8
        config.not_a_file: .rivet/c.lua is a Git LFS pointer; Rivet reads regular files only
        ");
    }
}
