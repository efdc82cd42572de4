//! GitHub, or a GitHub Enterprise Server, through octocrab: an App's JWT mints tokens that reach one repository for one
//! purpose; every call obeys GitHub's limits and is made once, because repeating is the business of who asked.

mod access;
mod app;
mod changes;
mod checks;
mod client;
mod comments;
mod deployments;
mod hooks;
mod limits;
pub mod needs;
pub mod payload;
mod pulls;
pub mod slot;
mod sources;

pub use app::{AppFacts, HookChange, HookConfig, InstallationFacts, NewApp, convert};
pub use checks::ANNOTATIONS;
pub use client::Github;
pub use hooks::HookDelivery;
pub use limits::POINTS_A_MINUTE;
