//! What a bare repository can tell of its refs and commits.

use super::{LocalForge, commit_id};
use crate::forge::pulls::Commits;
use crate::forge::{Commit, ForgeError, RepoFacts};

/// Commits one answer lists, as GitHub's comparison does.
const MOST_COMMITS: &str = "--max-count=250";

impl LocalForge {
    /// Every branch and tag with what it points to.
    pub async fn refs(&self, repo: &RepoFacts) -> Result<Vec<(String, String)>, ForgeError> {
        let format = "--format=%(refname) %(objectname)";
        let listed = self.git(repo).run(&["for-each-ref", format, "refs/heads", "refs/tags"], b"").await?;
        let text = String::from_utf8_lossy(&listed);
        let pair = |line: &str| line.rsplit_once(' ').map(|(name, sha)| (name.to_owned(), sha.to_owned()));
        Ok(text.lines().filter_map(pair).collect())
    }

    /// What leads from commit `from` to commit `to`.
    pub async fn commits_between(&self, repo: &RepoFacts, from: &str, to: &str) -> Result<Commits, ForgeError> {
        let git = self.git(repo);
        let (from, to) = (commit_id(from)?, commit_id(to)?);
        let range = format!("{from}..{to}");
        let counted = git.ask(&["rev-list", "--count", "--end-of-options", &range], b"").await?;
        if !counted.ok {
            return Err(ForgeError::NotFound(format!("commit {from} or {to}")));
        }
        let total = String::from_utf8_lossy(&counted.stdout).trim().parse().unwrap_or_default();
        let listed = git.run(&["log", "-z", MOST_COMMITS, "--format=%H%n%B", "--end-of-options", &range], b"").await?;
        let text = String::from_utf8_lossy(&listed);
        let commit = |entry: &str| {
            let (sha, message) = entry.split_once('\n')?;
            Some(Commit { sha: sha.to_owned(), git_ref: String::new(), message: message.trim_end().to_owned() })
        };
        let mut list: Vec<Commit> = text.split('\0').filter_map(commit).collect();
        list.reverse();
        let since = format!("{from}...{to}");
        let diff = ["diff", "--name-only", "-z", "--no-renames", "--end-of-options", &since];
        let changed = git.ask(&diff, b"").await?;
        let paths = String::from_utf8_lossy(&changed.stdout);
        let files = paths.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        // Without a common ancestor nobody can tell.
        Ok(Commits { list, total, files: changed.ok.then_some(files) })
    }
}
