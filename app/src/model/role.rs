//! What a credential may do.

use serde::{Deserialize, Serialize};

/// A role. The order is the rule: a role may do whatever a lower one may.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    sqlx::Type,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Launches, cancels, retries, approves.
    User,
    /// Runs the instance: runners, tokens, deliveries.
    Admin,
}
