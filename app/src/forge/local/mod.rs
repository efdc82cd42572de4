//! The local forge: bare repositories in a folder, with the operations GitHub has.
//!
//! A repository is `OWNER/NAME.git` below the folder. Pushing to it runs its `post-receive` hook ([`hook`]), which sends a
//! signed delivery of GitHub's shape; checks and statuses are rows. So the demo exercises the real path.

mod absent;
mod deployments;
mod git;
mod history;
pub mod hook;
mod repositories;
mod spool;

use super::people::{Account, Permission};
use super::{CheckRun, Commit, CommitStatus, ForgeError, Loaded, RepoFacts, tree};
use crate::model::time::Timestamp;
use crate::store::{Error, Store};
use git::Git;
use pipelines_spec::protocol::{Annotation, Checkout};
use pipelines_spec::trigger::EventFacts;
pub use repositories::HookTarget;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The local forge.
pub struct LocalForge {
    root: PathBuf,
    store: Store,
    found: repositories::Found,
}

impl LocalForge {
    /// The forge whose repositories are below `root`.
    pub fn new(root: impl Into<PathBuf>, store: Store) -> Self {
        Self { root: root.into(), store, found: repositories::Found::default() }
    }

    /// The folder the repositories are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where `repo` is.
    pub fn folder(&self, repo: &RepoFacts) -> PathBuf {
        self.root.join(&repo.owner).join(format!("{}.git", repo.name))
    }

    fn git(&self, repo: &RepoFacts) -> Git {
        Git::new(self.folder(repo))
    }

    /// The definition files of `repo` at `sha`.
    pub async fn sources(&self, repo: &RepoFacts, sha: &str) -> Result<Loaded, ForgeError> {
        let git = self.git(repo);
        let sha = commit_id(sha)?;
        let args = ["ls-tree", "-r", "-z", "-l", "--full-tree", sha, "--", tree::FOLDER];
        let listing = git.ask(&args, b"").await?;
        if !listing.ok {
            return Err(ForgeError::NotFound(format!("commit {sha}")));
        }
        let listed = listed(&listing.stdout);
        if let [only] = listed.as_slice()
            && only.path == tree::FOLDER
        {
            // Not a folder: a file, a link or a submodule of its name.
            return Ok(Loaded { problems: tree::folder_problem(only).into_iter().collect(), ..Loaded::default() });
        }
        let (entries, problems) = tree::choose(&listed);
        let mut loaded = Loaded { problems, ..Loaded::default() };
        if entries.is_empty() {
            return Ok(loaded);
        }
        let wanted: String = entries.iter().map(|entry| format!("{}\n", entry.sha)).collect();
        let answer = git.run(&["cat-file", "--batch"], wanted.as_bytes()).await?;
        let mut blobs = Blobs(&answer);
        for entry in entries {
            let bytes =
                blobs.next().ok_or_else(|| ForgeError::Unavailable(format!("{} cannot be read", entry.path)))?;
            tree::add(&mut loaded, &entry.path, bytes);
        }
        Ok(loaded)
    }

    /// The files a push changed. A new branch is compared with where it left the default branch; the first push of a
    /// repository changed everything it holds.
    pub async fn changed_files(&self, repo: &RepoFacts, facts: &EventFacts) -> Result<Option<Vec<String>>, ForgeError> {
        let git = self.git(repo);
        let sha = commit_id(&facts.sha)?;
        let before = match &facts.before {
            Some(before) => git.commit(commit_id(before)?).await?,
            None => self.fork_point(&git, repo, facts, sha).await?,
        };
        let output = match (&before, &facts.before) {
            (Some(before), _) => {
                git.ask(&["diff", "--name-only", "-z", "--no-renames", "--end-of-options", before, sha], b"").await?
            }
            // What was there before is gone: nobody can tell.
            (None, Some(_)) => return Ok(None),
            (None, None) => git.ask(&["ls-tree", "-r", "-z", "--name-only", "--full-tree", sha], b"").await?,
        };
        if !output.ok {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Some(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()))
    }

    async fn fork_point(
        &self,
        git: &Git,
        repo: &RepoFacts,
        facts: &EventFacts,
        sha: &str,
    ) -> Result<Option<String>, ForgeError> {
        let main = format!("refs/heads/{}", repo.default_branch);
        if facts.git_ref == main {
            return Ok(None);
        }
        let Some(main) = git.commit(&main).await? else { return Ok(None) };
        let output = git.ask(&["merge-base", "--end-of-options", &main, sha], b"").await?;
        Ok(output.ok.then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }

    /// The commit a branch, a tag, a full ref or a sha names.
    pub async fn resolve(&self, repo: &RepoFacts, git_ref: &str) -> Result<Commit, ForgeError> {
        let git = self.git(repo);
        let missing = || ForgeError::NotFound(format!("ref '{git_ref}'"));
        let mut candidates = vec![];
        if commit_id(git_ref).is_ok() {
            candidates.push(git_ref.to_owned());
        }
        if !is_ref_name(git_ref) {
            return Err(missing());
        }
        match git_ref.starts_with("refs/") {
            true => candidates.push(git_ref.to_owned()),
            false => candidates.extend([format!("refs/heads/{git_ref}"), format!("refs/tags/{git_ref}")]),
        }
        for full in candidates {
            if let Some(sha) = git.commit(&full).await? {
                let message = git.line(&["show", "-s", "--format=%B", "--end-of-options", &sha]).await?;
                return Ok(Commit { sha, git_ref: full, message });
            }
        }
        Err(missing())
    }

    /// A path: the runner of a local forge is on the same machine.
    pub async fn checkout(&self, repo: &RepoFacts, sha: &str) -> Result<Checkout, ForgeError> {
        let folder = tokio::fs::canonicalize(self.folder(repo)).await;
        let folder = folder.map_err(|_| ForgeError::NotFound(format!("repository {}", repo.full_name())))?;
        let url = url::Url::from_file_path(&folder)
            .map_err(|()| ForgeError::Refused(format!("{} has no file address", folder.display())))?;
        Ok(Checkout { url: url.into(), sha: commit_id(sha)?.to_owned(), token: None })
    }

    /// The newest check with this external id.
    pub async fn find_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<Option<i64>, ForgeError> {
        let mut tx = self.store.read().await.map_err(away)?;
        tx.find_local_check(&repo.id(), &check.head_sha, &check.external_id).await.map_err(away)
    }

    /// How many annotations a check has.
    pub async fn count_annotations(&self, repo: &RepoFacts, id: i64) -> Result<usize, ForgeError> {
        let mut tx = self.store.read().await.map_err(away)?;
        Ok(tx.local_check(&repo.id(), id).await.map_err(away)?.annotations.len())
    }

    /// Creates a check run.
    pub async fn create_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<i64, ForgeError> {
        let mut tx = self.store.begin().await.map_err(away)?;
        let id = tx.create_local_check(&repo.id(), check, Timestamp::now()).await.map_err(away)?;
        tx.commit().await.map_err(away)?;
        Ok(id)
    }

    /// Makes check `id` equal to `check`; annotations add up, as they do at GitHub.
    pub async fn update_check(
        &self,
        repo: &RepoFacts,
        id: i64,
        check: &CheckRun,
        annotations: &[Annotation],
    ) -> Result<(), ForgeError> {
        let mut tx = self.store.begin().await.map_err(away)?;
        let mut merged = check.clone();
        merged.annotations = tx.local_check(&repo.id(), id).await.map_err(away)?.annotations;
        merged.annotations.extend_from_slice(annotations);
        tx.update_local_check(&repo.id(), id, &merged, Timestamp::now()).await.map_err(away)?;
        tx.commit().await.map_err(away)
    }

    /// Sets a commit status.
    pub async fn set_status(&self, repo: &RepoFacts, sha: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let mut tx = self.store.begin().await.map_err(away)?;
        tx.save_local_status(&repo.id(), sha, status, Timestamp::now()).await.map_err(away)?;
        tx.commit().await.map_err(away)
    }

    /// Whoever can write to the folder owns everything in it, so the local forge knows administrators only. The number is
    /// the login's, the same every time.
    pub async fn permission(&self, _repo: &RepoFacts, login: &str) -> Result<(Permission, Account), ForgeError> {
        let digest = Sha256::digest(login.as_bytes());
        let number = digest.iter().take(7).fold(0_i64, |n, byte| (n << 8) | i64::from(*byte));
        let account = Account { login: login.to_owned(), id: number.max(1), is_bot: false };
        Ok((Permission::Admin, account))
    }
}

fn away(error: Error) -> ForgeError {
    match error {
        Error::NotFound => ForgeError::NotFound("check".to_owned()),
        other => ForgeError::Unavailable(other.to_string()),
    }
}

/// 40 or 64 lower-case hex digits: nothing else ever stands where a commit is meant.
fn commit_id(text: &str) -> Result<&str, ForgeError> {
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hex && matches!(text.len(), 40 | 64) { Ok(text) } else { Err(ForgeError::NotFound(format!("commit '{text}'"))) }
}

/// What git would take for a ref's name, without the operators `rev-parse` knows.
fn is_ref_name(text: &str) -> bool {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !text.is_empty() && !text.starts_with('-') && !text.contains("..") && !text.contains("@{") && !text.contains(odd)
}

/// The entries of `ls-tree -r -z -l`: `MODE TYPE ID SIZE\tPATH\0`.
fn listed(bytes: &[u8]) -> Vec<tree::Entry> {
    let text = String::from_utf8_lossy(bytes);
    let entry = |line: &str| {
        let (head, path) = line.split_once('\t')?;
        let mut words = head.split_whitespace();
        let (mode, _kind, id) = (words.next()?, words.next()?, words.next()?);
        let size = words.next().and_then(|size| size.parse().ok());
        Some(tree::Entry { path: path.to_owned(), mode: mode.to_owned(), sha: id.to_owned(), size })
    };
    text.split('\0').filter_map(entry).collect()
}

/// The objects of `cat-file --batch`, one after the other: `ID TYPE SIZE\nBYTES\n`.
struct Blobs<'a>(&'a [u8]);

impl<'a> Iterator for Blobs<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == b'\n')?;
        let head = std::str::from_utf8(&self.0[..end]).ok()?;
        let size: usize = head.split(' ').nth(2)?.parse().ok()?;
        let rest = &self.0[end + 1..];
        let bytes = rest.get(..size)?;
        self.0 = rest.get(size + 1..)?;
        Some(bytes)
    }
}
