//! Deployments of the local forge.

use super::LocalForge;
use crate::forge::deployments::{Deployment, DeploymentStatus};
use crate::forge::{ForgeError, RepoFacts};

fn not_kept() -> ForgeError {
    ForgeError::Refused("the local forge keeps no deployments".to_owned())
}

#[expect(clippy::unused_async, reason = "the same shape as GitHub's operations, which wait for answers")]
impl LocalForge {
    /// None is kept.
    pub async fn find_deployment(&self, _: &RepoFacts, _: &Deployment) -> Result<Option<i64>, ForgeError> {
        Ok(None)
    }

    /// None is kept.
    pub async fn create_deployment(&self, _: &RepoFacts, _: &Deployment) -> Result<i64, ForgeError> {
        Err(not_kept())
    }

    /// None is kept.
    pub async fn set_deployment_status(&self, _: &RepoFacts, _: i64, _: &DeploymentStatus) -> Result<(), ForgeError> {
        Err(not_kept())
    }
}
