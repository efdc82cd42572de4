//! What the working tree says: where it is, on which branch, at which commit, with which changes.

use super::Failure;
use crate::forge::tree::Entry;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A git working tree (or, without git, the nearest folder with a `.rivet`).
#[derive(Debug, Clone)]
pub struct WorkTree {
    /// Its top folder.
    pub root: PathBuf,
}

impl WorkTree {
    /// The one that holds the current directory.
    pub fn here() -> Result<Self, Failure> {
        let here =
            std::env::current_dir().map_err(|e| Failure::failed(format!("there is no current directory: {e}")))?;
        Ok(Self::of(&here))
    }

    /// The one that holds `folder`; `folder` itself where there is none.
    pub fn of(folder: &Path) -> Self {
        if let Some(root) = git(folder, &["rev-parse", "--show-toplevel"]) {
            return Self { root: root.into() };
        }
        let marked = folder.ancestors().find(|f| f.join(".rivet").is_dir());
        Self { root: marked.unwrap_or(folder).to_owned() }
    }

    /// The branch that is checked out; `None` on a detached head, or without git.
    pub fn branch(&self) -> Option<String> {
        self.git(&["symbolic-ref", "--short", "-q", "HEAD"])
    }

    /// The commit that is checked out; `None` before the first.
    pub fn head(&self) -> Option<String> {
        self.commit("HEAD")
    }

    /// The commit a revision names.
    pub fn commit(&self, revision: &str) -> Option<String> {
        self.git(&["rev-parse", "--verify", "-q", "--end-of-options", &format!("{revision}^{{commit}}")])
    }

    /// The full ref a short name means: a branch, else a tag, here or at the remote.
    pub fn full_ref(&self, name: &str) -> Option<String> {
        let exists = |full: &str| self.git(&["rev-parse", "--verify", "-q", "--end-of-options", full]).is_some();
        if name.starts_with("refs/") {
            return exists(name).then(|| name.to_owned());
        }
        if exists(&format!("refs/heads/{name}")) || exists(&format!("refs/remotes/origin/{name}")) {
            return Some(format!("refs/heads/{name}"));
        }
        exists(&format!("refs/tags/{name}")).then(|| format!("refs/tags/{name}"))
    }

    /// The commit that `revision` is built upon: where it left its upstream (for `HEAD`) or the default branch. Where it
    /// has nothing of its own, its last commit is what counts.
    pub fn base(&self, revision: &str) -> Option<String> {
        let from = |other: &str| self.git(&["merge-base", "--end-of-options", other, revision]);
        let is_head = revision == "HEAD";
        let upstream = if is_head { from("@{upstream}") } else { None };
        let default = self.default_branch();
        let base = upstream
            .or_else(|| from(&format!("refs/remotes/origin/{default}")))
            .or_else(|| from(&format!("refs/heads/{default}")))?;
        if Some(&base) == self.commit(revision).as_ref() && !(is_head && self.is_dirty()) {
            return self.commit(&format!("{revision}~1"));
        }
        Some(base)
    }

    /// Files of the working tree that differ from `base` (a commit), whether committed or not, new ones included; `None`:
    /// it cannot be known.
    pub fn changed_files(&self, base: &str) -> Option<Vec<String>> {
        let changed = self.changes(&[base])?;
        let new = self.git_list(&["ls-files", "-z", "--others", "--exclude-standard"])?;
        let mut all: Vec<String> = changed.into_iter().chain(new).collect();
        all.sort();
        all.dedup();
        Some(all)
    }

    /// Files that differ between two commits.
    pub fn changed_between(&self, base: &str, commit: &str) -> Option<Vec<String>> {
        self.changes(&[base, commit])
    }

    fn changes(&self, commits: &[&str]) -> Option<Vec<String>> {
        let diff = ["diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", "--end-of-options"];
        self.git_list(&[&diff[..], commits].concat())
    }

    /// The entries under `folder` at a commit.
    pub fn entries(&self, commit: &str, folder: &str) -> Option<Vec<Entry>> {
        let list = self.git_list(&["ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", commit, folder])?;
        list.iter().map(|line| entry(line)).collect()
    }

    /// The bytes of a blob.
    pub fn blob(&self, sha: &str) -> Option<Vec<u8>> {
        output(&self.root, &["cat-file", "blob", sha])
    }

    /// Whether there are changes that are not committed.
    pub fn is_dirty(&self) -> bool {
        self.git(&["status", "--porcelain"]).is_some_and(|s| !s.is_empty())
    }

    /// The message of the commit that is checked out.
    pub fn message(&self) -> Option<String> {
        self.message_of("HEAD")
    }

    /// The message of a commit.
    pub fn message_of(&self, revision: &str) -> Option<String> {
        self.git(&["log", "-1", "--format=%B", "--end-of-options", revision])
    }

    /// The name the person at the keyboard goes by.
    pub fn user(&self) -> String {
        let name = self.git(&["config", "--get", "user.name"]);
        name.or_else(|| std::env::var("USER").ok()).filter(|n| !n.is_empty()).unwrap_or_else(|| "you".to_owned())
    }

    /// The remote's default branch, as far as this clone knows it.
    pub fn default_branch(&self) -> String {
        let remote = self.git(&["symbolic-ref", "--short", "-q", "refs/remotes/origin/HEAD"]);
        let remote = remote.and_then(|r| r.strip_prefix("origin/").map(str::to_owned));
        let local = || {
            ["main", "master"]
                .into_iter()
                .find(|b| self.commit(&format!("refs/heads/{b}")).is_some())
                .map(str::to_owned)
        };
        remote.or_else(local).or_else(|| self.branch()).unwrap_or_else(|| "main".to_owned())
    }

    /// `owner/name`, from the address of the remote.
    pub fn repo(&self) -> Option<String> {
        let remote = self
            .branch()
            .and_then(|b| self.git(&["config", "--get", &format!("branch.{b}.remote")]))
            .unwrap_or_else(|| "origin".to_owned());
        self.git(&["config", "--get", &format!("remote.{remote}.url")]).and_then(|url| repo_of(&url))
    }

    /// Whether git keeps the file (a secret in it would be published).
    pub fn is_tracked(&self, file: &Path) -> bool {
        file.to_str().is_some_and(|f| self.git(&["ls-files", "--error-unmatch", "--", f]).is_some())
    }

    fn git(&self, args: &[&str]) -> Option<String> {
        git(&self.root, args)
    }

    fn git_list(&self, args: &[&str]) -> Option<Vec<String>> {
        let bytes = output(&self.root, args)?;
        Some(
            bytes
                .split(|b| *b == 0)
                .filter(|n| !n.is_empty())
                .map(|n| String::from_utf8_lossy(n).into_owned())
                .collect(),
        )
    }
}

/// What git answers, trimmed; `None` where it fails or there is no git. Nobody is asked for a password.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let text = String::from_utf8_lossy(&output(folder, args)?).trim().to_owned();
    Some(text)
}

fn output(folder: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    done.status.success().then_some(done.stdout)
}

/// `100644 blob SHA    SIZE\tPATH`
fn entry(line: &str) -> Option<Entry> {
    let (facts, path) = line.split_once('\t')?;
    let mut facts = facts.split_whitespace();
    let (mode, _, sha, size) = (facts.next()?, facts.next()?, facts.next()?, facts.next()?);
    Some(Entry { path: path.to_owned(), mode: mode.to_owned(), sha: sha.to_owned(), size: size.parse().ok() })
}

/// `owner/name` from `https://host/owner/name.git`, `git@host:owner/name`, `/some/where/owner/name.git`.
fn repo_of(url: &str) -> Option<String> {
    let path = url.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let mut parts = path.rsplit(['/', ':']);
    let (name, owner) = (parts.next()?, parts.next()?);
    (!name.is_empty() && !owner.is_empty()).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_names_the_repository() {
        for url in [
            "https://github.com/acme/web.git",
            "https://github.com/acme/web/",
            "git@github.com:acme/web.git",
            "ssh://git@github.com:22/acme/web",
            "/srv/rivet/repositories/acme/web.git",
            "file:///srv/acme/web.git",
        ] {
            assert_eq!(repo_of(url).as_deref(), Some("acme/web"), "{url}");
        }
        assert_eq!(repo_of("web"), None);
    }
}
