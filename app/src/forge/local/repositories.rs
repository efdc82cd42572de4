//! Repositories on this machine: found, numbered, and given the hook that tells of pushes.

use super::git::{self, Git};
use super::hook::HookFile;
use super::{ForgeError, LocalForge, away};
use crate::forge::RepoFacts;
use crate::model::ids::ForgeKind;
use crate::model::time::Timestamp;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What hooks need to know of the server they tell of pushes.
#[derive(Debug, Clone)]
pub struct HookTarget {
    /// The address of the server on this machine, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// The file that holds the secret deliveries are signed with.
    pub secret_file: PathBuf,
    /// The `rivet` program.
    pub program: PathBuf,
}

/// The repositories that were registered by this process, and what their hooks were told.
#[derive(Default)]
pub(super) struct Found(Mutex<Known>);

#[derive(Default)]
struct Known {
    target: Option<HookTarget>,
    known: HashSet<(String, String)>,
}

impl Found {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalForge {
    /// Finds every `OWNER/NAME.git`, registers it under its number and gives it the hook.
    pub async fn discover(&self, target: &HookTarget) -> Result<Vec<RepoFacts>, ForgeError> {
        self.found.lock().target = Some(target.clone());
        let mut found = vec![];
        for (owner, name) in folders(&self.root)? {
            found.push(self.register(&owner, &name, target).await?);
        }
        Ok(found)
    }

    /// [`LocalForge::discover`] of what was not there before, with what hooks were told then; nothing where nobody looked
    /// yet. One that cannot be registered (it is just being made, say) is tried again the next time.
    pub async fn discover_new(&self) -> Result<Vec<RepoFacts>, ForgeError> {
        let Some(target) = self.found.lock().target.clone() else { return Ok(vec![]) };
        let mut found = vec![];
        for (owner, name) in folders(&self.root)? {
            if self.found.lock().known.contains(&(owner.clone(), name.clone())) {
                continue;
            }
            // What git makes last when it makes a repository.
            if !self.root.join(&owner).join(format!("{name}.git")).join("config").exists() {
                continue;
            }
            match self.register(&owner, &name, &target).await {
                Ok(repo) => found.push(repo),
                Err(error) => {
                    tracing::warn!(%error, "the repository {owner}/{name} could not be registered: {error}");
                }
            }
        }
        Ok(found)
    }

    /// Makes a bare repository, registers it and gives it the hook. One that exists is only registered.
    pub async fn create_repository(
        &self,
        owner: &str,
        name: &str,
        target: &HookTarget,
    ) -> Result<RepoFacts, ForgeError> {
        if !is_name(owner) || !is_name(name) {
            return Err(ForgeError::Refused(format!("'{owner}/{name}' is not a repository's name")));
        }
        let folder = self.root.join(owner).join(format!("{name}.git"));
        if !folder.exists() {
            std::fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, &e))?;
            git::init(&folder, "main").await?;
        }
        self.register(owner, name, target).await
    }

    async fn register(&self, owner: &str, name: &str, target: &HookTarget) -> Result<RepoFacts, ForgeError> {
        let folder = self.root.join(owner).join(format!("{name}.git"));
        let git = Git::new(&folder);
        let known = git.ask(&["config", "--local", "--get", "rivet.id"], b"").await?;
        let known = String::from_utf8_lossy(&known.stdout).trim().parse::<i64>().ok().filter(|id| *id > 0);
        let head = git.ask(&["symbolic-ref", "--short", "HEAD"], b"").await?;
        let default_branch = match head.ok {
            true => String::from_utf8_lossy(&head.stdout).trim().to_owned(),
            false => "main".to_owned(),
        };
        let mut tx = self.store.begin().await.map_err(away)?;
        let forge_id = match known {
            Some(id) => id,
            None => tx.next_local_number().await.map_err(away)?,
        };
        let facts = RepoFacts {
            forge: ForgeKind::Local,
            forge_id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            default_branch,
            private: true,
            installation_id: None,
        };
        tx.save_repo(&facts, Timestamp::now()).await.map_err(away)?;
        tx.commit().await.map_err(away)?;
        // The number is in the repository itself too, so that it keeps it when its folder is renamed.
        let number = forge_id.to_string();
        for (key, value) in [
            ("rivet.id", number.as_str()),
            ("receive.advertisePushOptions", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("transfer.fsckObjects", "true"),
        ] {
            git.run(&["config", "--local", key, value], b"").await?;
        }
        HookFile::new(&facts, target, &self.root).install(&folder).map_err(|e| unwritable(&folder, &e))?;
        self.found.lock().known.insert((owner.to_owned(), name.to_owned()));
        Ok(facts)
    }
}

fn unwritable(folder: &Path, error: &std::io::Error) -> ForgeError {
    ForgeError::Unavailable(format!("{}: {error}", folder.display()))
}

/// `OWNER/NAME` of every `OWNER/NAME.git`, sorted.
fn folders(root: &Path) -> Result<Vec<(String, String)>, ForgeError> {
    let mut found = vec![];
    for owner in entries(root)? {
        if !is_name(&owner) {
            continue;
        }
        for folder in entries(&root.join(&owner))? {
            if let Some(name) = folder.strip_suffix(".git").filter(|name| is_name(name)) {
                found.push((owner.clone(), name.to_owned()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<String>, ForgeError> {
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            let folders = entries.flatten().filter(|e| e.path().is_dir());
            Ok(folders.filter_map(|e| e.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(unwritable(folder, &error)),
    }
}

/// What GitHub would take for an owner or a repository: it becomes a folder, so dots never lead.
fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && !text.starts_with(['.', '-']) && text.bytes().all(fine)
}
