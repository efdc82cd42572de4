//! Deployments as a forge shows them beside an environment. GitHub's own words.

use serde::{Deserialize, Serialize};

/// The key of a deployment's payload that holds our own id of it, by which one is found again.
pub const OUR_ID: &str = "rivet";

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Our id of it, unique for each.
    pub external_id: String,
    /// Such as `production`.
    pub environment: String,
    /// The commit.
    pub sha: String,
    /// For people, at most 140 characters.
    pub description: String,
    /// Whether end users meet it.
    pub production: bool,
    /// `deploy`, or `deploy:rollback`.
    pub task: String,
}

/// How a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// `queued`, `pending`, `in_progress`, `success`, `failure`, `error`, `inactive`.
    pub state: String,
    /// At most 140 characters.
    pub description: String,
    /// The page that tells more.
    pub log_url: String,
}
