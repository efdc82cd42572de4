//! PLACEHOLDER for the github forge.
#![expect(clippy::unused_async, missing_docs, reason = "not built yet")]

pub mod payload;

use super::{CheckRun, Commit, CommitStatus, ForgeError, Loaded, RepoFacts};
use pipelines_spec::protocol::{Annotation, Checkout};
use pipelines_spec::trigger::EventFacts;

/// The github forge.
pub struct Github {}

impl Github {
    pub async fn sources(&self, _repo: &RepoFacts, _sha: &str) -> Result<Loaded, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn changed_files(&self, _: &RepoFacts, _: &EventFacts) -> Result<Option<Vec<String>>, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn resolve(&self, _: &RepoFacts, _: &str) -> Result<Commit, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn checkout(&self, _: &RepoFacts, _: &str) -> Result<Checkout, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn find_check(&self, _: &RepoFacts, _: &CheckRun) -> Result<Option<i64>, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn create_check(&self, _: &RepoFacts, _: &CheckRun) -> Result<i64, ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn update_check(&self, _: &RepoFacts, _: i64, _: &CheckRun, _: &[Annotation]) -> Result<(), ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn set_status(&self, _: &RepoFacts, _: &str, _: &CommitStatus) -> Result<(), ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
    pub async fn permission(&self, _: &RepoFacts, _: &str) -> Result<(String, i64), ForgeError> {
        Err(ForgeError::Unavailable("not built yet".into()))
    }
}
