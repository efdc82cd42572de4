//! Pull requests, refs, and what lies between two commits.

use super::Github;
use super::access::User;
use super::changes::{encoded, paths_of};
use super::client::PAGE;
use super::payload::{clean, is_sha, title};
use crate::forge::people::Account;
use crate::forge::pulls::{CommitFacts, Commits, PullRequest};
use crate::forge::{Commit, ForgeError, RepoFacts};
use pipelines_spec::trigger::PullRequestFacts;
use serde::Deserialize;

/// Pages of pull requests or refs that are read: what lies beyond is left to deliveries.
const MOST_PAGES: usize = 50;

#[derive(Deserialize)]
struct Pull {
    number: i64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    draft: bool,
    merged_at: Option<String>,
    #[serde(default)]
    updated_at: String,
    user: Option<User>,
    #[serde(default)]
    labels: Vec<Label>,
    head: Side,
    base: Side,
    mergeable: Option<bool>,
    merge_commit_sha: Option<String>,
}

#[derive(Deserialize)]
struct Label {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Side {
    #[serde(default)]
    r#ref: String,
    #[serde(default)]
    sha: String,
    repo: Option<SideRepo>,
}

#[derive(Deserialize)]
struct SideRepo {
    id: i64,
    #[serde(default)]
    full_name: String,
}

#[derive(Deserialize)]
struct Ref {
    r#ref: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct GitCommit {
    #[serde(default)]
    message: String,
    #[serde(default)]
    parents: Vec<Object>,
}

#[derive(Deserialize)]
struct Between {
    #[serde(default)]
    total_commits: i64,
    #[serde(default)]
    commits: Vec<Listed>,
    files: Option<Vec<super::changes::File>>,
}

#[derive(Deserialize)]
struct Listed {
    sha: String,
    commit: Body,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    message: String,
}

impl Pull {
    fn into_facts(self, repo: &RepoFacts) -> Result<PullRequest, ForgeError> {
        let (head_sha, base_sha) = (self.head.sha, self.base.sha);
        if !is_sha(&head_sha) || !is_sha(&base_sha) {
            return Err(ForgeError::Unavailable(format!("pull request {} names no commits", self.number)));
        }
        let author = self.user.map_or_else(Account::ghost, User::into_account);
        let fork = self.head.repo.as_ref().is_none_or(|head| head.id != repo.forge_id);
        let merged = self.merged_at.is_some();
        Ok(PullRequest {
            facts: PullRequestFacts {
                number: self.number,
                title: title(&self.title),
                author: author.login.clone(),
                base: clean(&self.base.r#ref),
                base_sha,
                head: clean(&self.head.r#ref),
                head_sha,
                merge_sha: None,
                draft: self.draft,
                fork,
                labels: self.labels.into_iter().map(|label| clean(&label.name)).collect(),
            },
            author,
            open: self.state == "open",
            merged,
            head_repo: self.head.repo.map(|head| clean(&head.full_name)),
            mergeable: self.mergeable,
            merge_sha: self.merge_commit_sha.filter(|sha| is_sha(sha)),
            updated_at: self.updated_at,
        })
    }
}

impl Github {
    /// See [`crate::forge::Forge::pull_request`].
    pub async fn pull_request(&self, repo: &RepoFacts, number: i64) -> Result<PullRequest, ForgeError> {
        self.get::<Pull>(repo, &format!("pulls/{number}")).await?.into_facts(repo)
    }

    /// See [`crate::forge::Forge::open_pull_requests`].
    pub async fn open_pull_requests(&self, repo: &RepoFacts) -> Result<Vec<PullRequest>, ForgeError> {
        self.listed_pulls(repo, "pulls?state=open&sort=created&direction=asc").await
    }

    /// See [`crate::forge::Forge::pull_requests_of`].
    pub async fn pull_requests_of(&self, repo: &RepoFacts, sha: &str) -> Result<Vec<PullRequest>, ForgeError> {
        if !is_sha(sha) {
            return Err(ForgeError::NotFound("what is not a commit's full id".to_owned()));
        }
        let found = match self.listed_pulls(repo, &format!("commits/{sha}/pulls?")).await {
            // GitHub does not know a commit that was pushed a moment ago.
            Err(ForgeError::NotFound(_) | ForgeError::Refused(_)) => vec![],
            other => other?,
        };
        Ok(found.into_iter().filter(|pull| pull.open && pull.facts.head_sha == sha).collect())
    }

    /// See [`crate::forge::Forge::pull_requests_from`].
    pub async fn pull_requests_from(&self, repo: &RepoFacts, branch: &str) -> Result<Vec<PullRequest>, ForgeError> {
        let route = format!("pulls?state=open&head={}", encoded(&format!("{}:{branch}", repo.owner)));
        let found = self.listed_pulls(repo, &route).await?;
        // A server that does not know the filter answers with all of them.
        Ok(found.into_iter().filter(|pull| pull.open && !pull.facts.fork && pull.facts.head == branch).collect())
    }

    /// See [`crate::forge::Forge::commit_facts`].
    pub async fn commit_facts(&self, repo: &RepoFacts, sha: &str) -> Result<CommitFacts, ForgeError> {
        if !is_sha(sha) {
            return Err(ForgeError::NotFound("what is not a commit's full id".to_owned()));
        }
        let found: GitCommit = self.get(repo, &format!("git/commits/{sha}")).await?;
        let parents = found.parents.into_iter().map(|parent| parent.sha).collect();
        Ok(CommitFacts { message: clean(&found.message), parents })
    }

    async fn listed_pulls(&self, repo: &RepoFacts, route: &str) -> Result<Vec<PullRequest>, ForgeError> {
        let mut all = vec![];
        for page in 1..=MOST_PAGES {
            let listed: Vec<Pull> = self.get(repo, &format!("{route}&per_page={PAGE}&page={page}")).await?;
            let count = listed.len();
            for pull in listed {
                all.push(pull.into_facts(repo)?);
            }
            if count < PAGE {
                break;
            }
        }
        Ok(all)
    }

    /// See [`crate::forge::Forge::refs`].
    pub async fn refs(&self, repo: &RepoFacts) -> Result<Vec<(String, String)>, ForgeError> {
        let mut all = vec![];
        for kind in ["heads", "tags"] {
            let listed: Vec<Ref> = match self.get(repo, &format!("git/matching-refs/{kind}/")).await {
                // An empty repository has none.
                Err(ForgeError::NotFound(_)) => vec![],
                other => other?,
            };
            all.extend(listed.into_iter().map(|found| (clean(&found.r#ref), found.object.sha)));
        }
        Ok(all)
    }

    /// See [`crate::forge::Forge::commits_between`].
    pub async fn commits_between(&self, repo: &RepoFacts, from: &str, to: &str) -> Result<Commits, ForgeError> {
        if !is_sha(from) || !is_sha(to) {
            return Err(ForgeError::NotFound("what is not a commit's full id".to_owned()));
        }
        // One page holds the newest commits and all files that GitHub lists.
        let found: Between = self.get(repo, &format!("compare/{from}...{to}")).await?;
        let commit =
            |listed: Listed| Commit { sha: listed.sha, git_ref: String::new(), message: clean(&listed.commit.message) };
        Ok(Commits {
            list: found.commits.into_iter().map(commit).collect(),
            total: found.total_commits,
            files: found.files.and_then(paths_of),
        })
    }
}
