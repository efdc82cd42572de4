//! Deployments of the local forge: rows, as its checks are.

use super::{LocalForge, away};
use crate::forge::deployments::{Deployment, DeploymentStatus};
use crate::forge::{ForgeError, RepoFacts};

impl LocalForge {
    /// The newest deployment with this external id.
    pub async fn find_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<Option<i64>, ForgeError> {
        let mut tx = self.store.read().await.map_err(away)?;
        tx.find_local_deployment(&repo.id(), &wanted.external_id).await.map_err(away)
    }

    /// Keeps a deployment.
    pub async fn create_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<i64, ForgeError> {
        let mut tx = self.store.begin().await.map_err(away)?;
        let id = tx.create_local_deployment(&repo.id(), wanted).await.map_err(away)?;
        tx.commit().await.map_err(away)?;
        Ok(id)
    }

    /// Adds a status to a deployment.
    pub async fn set_deployment_status(
        &self,
        repo: &RepoFacts,
        id: i64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError> {
        let mut tx = self.store.begin().await.map_err(away)?;
        tx.add_local_deployment_status(&repo.id(), id, status).await.map_err(away)?;
        tx.commit().await.map_err(away)
    }
}
