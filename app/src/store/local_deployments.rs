//! The deployments the local forge keeps, as GitHub would.

use super::{Error, Json, Result, Tx, with_conn};
use crate::forge::deployments::{Deployment, DeploymentStatus};
use crate::model::ids::RepoId;

impl Tx {
    /// The newest deployment with this external id.
    pub async fn find_local_deployment(&mut self, repo: &RepoId, external_id: &str) -> Result<Option<i64>> {
        let sql = "SELECT MAX(id) FROM local_deployment WHERE repo_id = $1 AND external_id = $2";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(external_id).fetch_one(conn).await?))
    }

    /// Creates a deployment and answers its id.
    pub async fn create_local_deployment(&mut self, repo: &RepoId, deployment: &Deployment) -> Result<i64> {
        let sql = "INSERT INTO local_deployment (id, repo_id, external_id, body, statuses)
                   SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, '[]' FROM local_deployment RETURNING id";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(repo).bind(&deployment.external_id);
            query.bind(Json(deployment)).fetch_one(conn).await?
        }))
    }

    /// Adds a status to a deployment.
    pub async fn add_local_deployment_status(
        &mut self,
        repo: &RepoId,
        id: i64,
        status: &DeploymentStatus,
    ) -> Result<()> {
        let sql = "SELECT statuses FROM local_deployment WHERE repo_id = $1 AND id = $2";
        let found: Option<Json<Vec<DeploymentStatus>>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(id).fetch_optional(conn).await?);
        let Json(mut statuses) = found.ok_or(Error::NotFound)?;
        statuses.push(status.clone());
        let sql = "UPDATE local_deployment SET statuses = $3 WHERE repo_id = $1 AND id = $2";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(repo).bind(id).bind(Json(statuses)).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Every deployment of a repository with its statuses, oldest first.
    pub async fn local_deployments(&mut self, repo: &RepoId) -> Result<Vec<(Deployment, Vec<DeploymentStatus>)>> {
        let sql = "SELECT body, statuses FROM local_deployment WHERE repo_id = $1 ORDER BY id";
        let rows: Vec<(Json<Deployment>, Json<Vec<DeploymentStatus>>)> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(repo).fetch_all(conn).await?);
        Ok(rows.into_iter().map(|(Json(deployment), Json(statuses))| (deployment, statuses)).collect())
    }
}
