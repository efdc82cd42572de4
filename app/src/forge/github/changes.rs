//! What an event changed, and what a ref stands for. A list that may be incomplete is no list: then every pipeline runs.

use super::Github;
use super::client::PAGE;
use super::payload::{clean, is_sha};
use crate::forge::{Commit, ForgeError, RepoFacts};
use pipelines_spec::trigger::{EventFacts, EventKind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A comparison lists no more files than this.
const COMPARE_FILES: usize = 300;
/// A pull request's list has no more files than this.
const PULL_FILES: usize = 3000;

#[derive(Deserialize)]
struct Comparison {
    #[serde(default)]
    status: String,
    files: Option<Vec<File>>,
    merge_base_commit: Option<Base>,
}

#[derive(Deserialize)]
struct Base {
    sha: String,
}

/// What a comparison came to.
enum Compared {
    /// One of the commits is gone.
    Gone,
    /// All files, and whether each side has what the other has not.
    All(Vec<String>, bool),
    /// More files than GitHub lists, and where both sides parted.
    Cut(Option<String>),
}

/// A file in a comparison.
#[derive(Deserialize)]
pub(super) struct File {
    filename: String,
    /// A file that was moved away from a path changed that path too.
    previous_filename: Option<String>,
}

#[derive(Deserialize)]
struct CommitAnswer {
    sha: String,
    commit: CommitBody,
}

#[derive(Deserialize)]
struct CommitBody {
    #[serde(default)]
    message: String,
}

fn paths(files: Vec<File>) -> impl Iterator<Item = String> {
    files.into_iter().flat_map(|file| std::iter::once(file.filename).chain(file.previous_filename))
}

/// The paths of a comparison's files; `None` where there may be more than it lists.
pub(super) fn paths_of(files: Vec<File>) -> Option<Vec<String>> {
    (files.len() < COMPARE_FILES).then(|| paths(files).collect::<BTreeSet<String>>().into_iter().collect())
}

impl Github {
    /// See [`crate::forge::Forge::changed_files`].
    pub async fn changed_files(&self, repo: &RepoFacts, facts: &EventFacts) -> Result<Option<Vec<String>>, ForgeError> {
        match (facts.name, &facts.pull_request, &facts.before) {
            // A pull request's list is about its head as it is now.
            (EventKind::PullRequest, Some(pull), _) if pull.merge_sha.is_some() => {
                match self.pull_request_files(repo, pull.number).await? {
                    None => self.between_sides(repo, &pull.base_sha, &facts.sha).await,
                    listed => Ok(listed),
                }
            }
            (EventKind::PullRequest, Some(pull), _) => self.between_sides(repo, &pull.base_sha, &facts.sha).await,
            (EventKind::MergeGroup, _, Some(base)) => self.between(repo, base, &facts.sha).await,
            (EventKind::Push, _, _) if facts.tag.is_some() => Ok(None),
            (EventKind::Push, _, Some(before)) => self.between(repo, before, &facts.sha).await,
            // A new branch: everything since it left the default branch. GitHub compares from the merge base.
            (EventKind::Push, _, None) if facts.branch.as_deref() != Some(&repo.default_branch) => {
                self.between(repo, &encoded(&repo.default_branch), &facts.sha).await
            }
            _ => Ok(None),
        }
    }

    async fn pull_request_files(&self, repo: &RepoFacts, number: i64) -> Result<Option<Vec<String>>, ForgeError> {
        let (mut all, mut listed) = (BTreeSet::new(), 0);
        for page in 1..=PULL_FILES / PAGE {
            let route = format!("pulls/{number}/files?per_page={PAGE}&page={page}");
            let files: Vec<File> = self.get(repo, &route).await?;
            let count = files.len();
            listed += count;
            all.extend(paths(files));
            if count < PAGE {
                return Ok(Some(all.into_iter().collect()));
            }
        }
        tracing::info!(listed, "a pull request has more files than GitHub lists; path filters do not hold it back");
        Ok(None)
    }

    /// Files that differ between two commits of one ref. Where history was rewritten GitHub compares only one side with the
    /// common ancestor, so both sides are asked for: the list may then name too much, never too little. Where GitHub cuts
    /// the list, both trees are compared.
    async fn between(&self, repo: &RepoFacts, before: &str, after: &str) -> Result<Option<Vec<String>>, ForgeError> {
        // From a branch's name the merge base is what is wanted; between two commits of one ref both sides are.
        if !is_sha(before) {
            return self.between_sides(repo, before, after).await;
        }
        let (mut all, diverged) = match self.compare(repo, before, after).await? {
            // The commit before a forced push may be gone for comparisons, and its tree still be there.
            Compared::Gone | Compared::Cut(_) => return self.tree_diff(repo, before, after).await,
            Compared::All(files, diverged) => (files.into_iter().collect::<BTreeSet<_>>(), diverged),
        };
        if diverged {
            match self.compare(repo, after, before).await? {
                Compared::Gone | Compared::Cut(_) => return self.tree_diff(repo, before, after).await,
                Compared::All(back, _) => all.extend(back),
            }
        }
        Ok(Some(all.into_iter().collect()))
    }

    /// Files that one side changed since both parted.
    async fn between_sides(&self, repo: &RepoFacts, base: &str, head: &str) -> Result<Option<Vec<String>>, ForgeError> {
        match self.compare(repo, base, head).await? {
            Compared::All(files, _) => Ok(Some(files.into_iter().collect::<BTreeSet<_>>().into_iter().collect())),
            Compared::Cut(Some(parted)) => self.tree_diff(repo, &parted, head).await,
            Compared::Gone | Compared::Cut(None) => Ok(None),
        }
    }

    async fn compare(&self, repo: &RepoFacts, base: &str, head: &str) -> Result<Compared, ForgeError> {
        let found: Comparison = match self.get(repo, &format!("compare/{base}...{head}?per_page=1")).await {
            // The commit before a forced push may be gone.
            Err(ForgeError::NotFound(_)) => return Ok(Compared::Gone),
            other => other?,
        };
        let parted = found.merge_base_commit.map(|base| base.sha).filter(|sha| is_sha(sha));
        match found.files {
            Some(files) if files.len() < COMPARE_FILES => {
                let diverged = matches!(found.status.as_str(), "diverged" | "behind");
                Ok(Compared::All(paths(files).collect(), diverged))
            }
            _ => Ok(Compared::Cut(parted)),
        }
    }

    /// Paths whose contents differ between two commits, from both trees as a whole; `None` where GitHub cuts one of them
    /// or has it no more.
    async fn tree_diff(&self, repo: &RepoFacts, before: &str, after: &str) -> Result<Option<Vec<String>>, ForgeError> {
        let (Some(before), Some(after)) = (self.files_at(repo, before).await?, self.files_at(repo, after).await?)
        else {
            return Ok(None);
        };
        let differs = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| -> BTreeSet<String> {
            one.iter().filter(|(path, sha)| other.get(*path) != Some(*sha)).map(|(path, _)| path.clone()).collect()
        };
        let mut all = differs(&before, &after);
        all.extend(differs(&after, &before));
        Ok(Some(all.into_iter().collect()))
    }

    /// Every file of a commit by path, with what tells its contents and mode apart.
    async fn files_at(&self, repo: &RepoFacts, sha: &str) -> Result<Option<BTreeMap<String, String>>, ForgeError> {
        let (entries, cut) = match self.whole_tree(repo, sha).await {
            Err(ForgeError::NotFound(_)) => return Ok(None),
            other => other?,
        };
        let files = entries.into_iter().filter(|entry| entry.mode != "040000");
        Ok((!cut).then(|| files.map(|entry| (entry.path, format!("{} {}", entry.mode, entry.sha))).collect()))
    }

    /// See [`crate::forge::Forge::resolve`].
    pub async fn resolve(&self, repo: &RepoFacts, git_ref: &str) -> Result<Commit, ForgeError> {
        if git_ref.is_empty() || git_ref.len() > 1024 || git_ref.bytes().any(|b| b.is_ascii_control()) {
            return Err(ForgeError::NotFound(format!("ref '{}'", clean(git_ref))));
        }
        let candidates = match git_ref.strip_prefix("refs/") {
            Some(rest) => vec![(rest.to_owned(), git_ref.to_owned())],
            None if is_sha(git_ref) => vec![(git_ref.to_owned(), git_ref.to_owned())],
            None => {
                ["heads", "tags"].map(|kind| (format!("{kind}/{git_ref}"), format!("refs/{kind}/{git_ref}"))).into()
            }
        };
        for (name, full) in candidates {
            match self.get::<CommitAnswer>(repo, &format!("commits/{}", encoded(&name))).await {
                // 422 is what GitHub says of a commit that does not exist.
                Err(ForgeError::NotFound(_) | ForgeError::Refused(_)) => {}
                found => {
                    let found = found?;
                    return Ok(Commit { sha: found.sha, git_ref: full, message: clean(&found.commit.message) });
                }
            }
        }
        Err(ForgeError::NotFound(format!("ref '{git_ref}'")))
    }
}

/// A ref's name as part of an address: everything but letters, digits and a few harmless signs is escaped.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
