//! What bare repositories do not have: pull requests with their comments, and teams. Asking for one is not a fault of the
//! machinery: it is not there.

use super::LocalForge;
use crate::forge::comments::{Comment, Reaction};
use crate::forge::pulls::{CommitFacts, PullRequest};
use crate::forge::{ForgeError, RepoFacts};

fn no_pull_request(number: i64) -> ForgeError {
    ForgeError::NotFound(format!("pull request {number} (the local forge has none)"))
}

fn no_comment() -> ForgeError {
    ForgeError::NotFound("the comment (the local forge has none)".to_owned())
}

#[expect(clippy::unused_async, reason = "the same shape as GitHub's operations, which wait for answers")]
impl LocalForge {
    /// Nobody is in a team: there are none.
    pub async fn is_team_member(&self, _: &RepoFacts, _: &str, _: &str, _: &str) -> Result<bool, ForgeError> {
        Ok(false)
    }

    /// There are none.
    pub async fn pull_request(&self, _: &RepoFacts, number: i64) -> Result<PullRequest, ForgeError> {
        Err(no_pull_request(number))
    }

    /// There are none.
    pub async fn open_pull_requests(&self, _: &RepoFacts) -> Result<Vec<PullRequest>, ForgeError> {
        Ok(vec![])
    }

    /// There are none.
    pub async fn pull_requests_of(&self, _: &RepoFacts, _: &str) -> Result<Vec<PullRequest>, ForgeError> {
        Ok(vec![])
    }

    /// There are none.
    pub async fn pull_requests_from(&self, _: &RepoFacts, _: &str) -> Result<Vec<PullRequest>, ForgeError> {
        Ok(vec![])
    }

    /// Only asked about pull requests.
    pub async fn commit_facts(&self, _: &RepoFacts, sha: &str) -> Result<CommitFacts, ForgeError> {
        Err(ForgeError::NotFound(format!("a pull request's commit {sha} (the local forge has none)")))
    }

    /// There are none.
    pub async fn comment(&self, _: &RepoFacts, _: i64) -> Result<Comment, ForgeError> {
        Err(no_comment())
    }

    /// There are none.
    pub async fn comments(&self, _: &RepoFacts, number: i64) -> Result<Vec<Comment>, ForgeError> {
        Err(no_pull_request(number))
    }

    /// There is nothing to comment on.
    pub async fn post_comment(&self, _: &RepoFacts, number: i64, _: &str) -> Result<i64, ForgeError> {
        Err(no_pull_request(number))
    }

    /// There are none.
    pub async fn edit_comment(&self, _: &RepoFacts, _: i64, _: &str) -> Result<(), ForgeError> {
        Err(no_comment())
    }

    /// There are none.
    pub async fn react(&self, _: &RepoFacts, _: i64, _: Reaction) -> Result<(), ForgeError> {
        Err(no_comment())
    }
}
