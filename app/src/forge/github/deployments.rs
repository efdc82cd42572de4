//! Deployments beside environments. A token of their own: the permission is optional when the App is set up.

use super::Github;
use super::checks::chars;
use super::client::{PAGE, Purpose};
use crate::forge::deployments::{Deployment, DeploymentStatus, OUR_ID};
use crate::forge::{ForgeError, RepoFacts};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Told {
    id: i64,
    /// An object, or text where somebody else made it.
    #[serde(default)]
    payload: Value,
}

impl Told {
    fn is(&self, wanted: &Deployment) -> bool {
        let ours = match &self.payload {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        ours[OUR_ID] == wanted.external_id.as_str()
    }
}

impl Github {
    /// See [`crate::forge::Forge::find_deployment`].
    pub async fn find_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<Option<i64>, ForgeError> {
        let environment: String = url::form_urlencoded::byte_serialize(wanted.environment.as_bytes()).collect();
        let route = format!("deployments?sha={}&environment={environment}&per_page={PAGE}", wanted.sha);
        let listed: Vec<Told> = self.call(repo, Purpose::Deploy, Method::GET, &route, None::<&()>).await?;
        Ok(listed.iter().find(|told| told.is(wanted)).map(|told| told.id))
    }

    /// See [`crate::forge::Forge::create_deployment`].
    pub async fn create_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<i64, ForgeError> {
        // Whether it may happen was decided here, so neither other checks nor the base branch are asked.
        let body = json!({
            "ref": wanted.sha,
            "task": wanted.task,
            "auto_merge": false,
            "required_contexts": [],
            "payload": { OUR_ID: wanted.external_id },
            "environment": chars(&wanted.environment, 255),
            "description": chars(&wanted.description, 140),
            "production_environment": wanted.production,
            "transient_environment": false,
        });
        let told: Told = self.call(repo, Purpose::Deploy, Method::POST, "deployments", Some(&body)).await?;
        Ok(told.id)
    }

    /// See [`crate::forge::Forge::set_deployment_status`].
    pub async fn set_deployment_status(
        &self,
        repo: &RepoFacts,
        id: i64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError> {
        let body = json!({
            "state": status.state,
            "description": chars(&status.description, 140),
            "log_url": status.log_url,
            "auto_inactive": false,
        });
        let route = format!("deployments/{id}/statuses");
        let _: Value = self.call(repo, Purpose::Deploy, Method::POST, &route, Some(&body)).await?;
        Ok(())
    }
}
