//! The definitions at a commit: the root tree, the tree of `.rivet`, the blobs. Objects are named by what they hold, so
//! every one is fetched once.

use super::Github;
use crate::forge::tree::{self, Entry};
use crate::forge::{ForgeError, Loaded, RepoFacts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Tree {
    #[serde(default)]
    tree: Vec<Node>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Node {
    path: String,
    mode: String,
    sha: String,
    size: Option<u64>,
}

impl From<Node> for Entry {
    fn from(node: Node) -> Self {
        Self { path: node.path, mode: node.mode, sha: node.sha, size: node.size }
    }
}

#[derive(Deserialize)]
struct Blob {
    content: String,
    encoding: String,
}

impl Github {
    /// See [`crate::forge::Forge::sources`].
    pub async fn sources(&self, repo: &RepoFacts, sha: &str) -> Result<Loaded, ForgeError> {
        let load = self.load(repo, sha);
        let loaded = self.loaded.try_get_with(format!("{}@{sha}", repo.id()), load).await;
        loaded.map(|loaded| (*loaded).clone()).map_err(|error: Arc<ForgeError>| (*error).clone())
    }

    async fn load(&self, repo: &RepoFacts, sha: &str) -> Result<Arc<Loaded>, ForgeError> {
        let mut loaded = Loaded::default();
        let root = match self.tree(repo, sha, false).await {
            Err(ForgeError::NotFound(_)) => return Err(ForgeError::NotFound(format!("commit {sha}"))),
            other => other?,
        };
        let Some(folder) = root.0.iter().find(|entry| entry.path == tree::FOLDER) else {
            // What a cut list does not name may still be there.
            loaded.problems.extend(root.1.then(tree::truncated));
            return Ok(Arc::new(loaded));
        };
        if let Some(problem) = tree::folder_problem(folder) {
            loaded.problems.push(problem);
            return Ok(Arc::new(loaded));
        }
        let listed = self.tree(repo, &folder.sha, true).await?;
        if listed.1 {
            loaded.problems.push(tree::truncated());
            return Ok(Arc::new(loaded));
        }
        let entries: Vec<Entry> = listed.0.iter().map(|entry| in_folder(entry.clone())).collect();
        let (files, problems) = tree::choose(&entries);
        loaded.problems = problems;
        for file in files {
            let bytes = self.blob(repo, &file.sha).await?;
            tree::add(&mut loaded, &file.path, &bytes);
        }
        Ok(Arc::new(loaded))
    }

    /// The entries of a tree, and whether GitHub left some out.
    async fn tree(&self, repo: &RepoFacts, sha: &str, deep: bool) -> Result<Arc<(Vec<Entry>, bool)>, ForgeError> {
        let route = format!("git/trees/{sha}{}", if deep { "?recursive=1" } else { "" });
        let fetch = async {
            let tree: Tree = self.get(repo, &route).await?;
            Ok(Arc::new((tree.tree.into_iter().map(Entry::from).collect(), tree.truncated)))
        };
        let key = format!("{}:{route}", repo.id());
        self.folders.try_get_with(key, fetch).await.map_err(|error: Arc<ForgeError>| (*error).clone())
    }

    /// The same of a whole commit. Not kept: such a list may have a hundred thousand entries and is asked for once.
    pub(super) async fn whole_tree(&self, repo: &RepoFacts, sha: &str) -> Result<(Vec<Entry>, bool), ForgeError> {
        let tree: Tree = self.get(repo, &format!("git/trees/{sha}?recursive=1")).await?;
        Ok((tree.tree.into_iter().map(Entry::from).collect(), tree.truncated))
    }

    async fn blob(&self, repo: &RepoFacts, sha: &str) -> Result<Arc<Vec<u8>>, ForgeError> {
        let fetch = async {
            let blob: Blob = self.get(repo, &format!("git/blobs/{sha}")).await?;
            let broken = |what: String| ForgeError::Unavailable(format!("blob {sha} came {what}"));
            if blob.encoding != "base64" {
                return Err(broken(format!("as {}", blob.encoding)));
            }
            let packed: String = blob.content.split_ascii_whitespace().collect();
            STANDARD.decode(packed).map(Arc::new).map_err(|e| broken(format!("damaged: {e}")))
        };
        let key = format!("{}:{sha}", repo.id());
        self.blobs.try_get_with(key, fetch).await.map_err(|error: Arc<ForgeError>| (*error).clone())
    }
}

fn in_folder(mut entry: Entry) -> Entry {
    entry.path = format!("{}/{}", tree::FOLDER, entry.path);
    entry
}
