//! A newtype for every id, so that one kind cannot be passed for another.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

static GENERATOR: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());

/// A new ULID that sorts after every earlier one of this process, also within a millisecond.
fn next_ulid() -> String {
    let next = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner).generate();
    // It only fails when 2^80 were drawn in one millisecond.
    next.unwrap_or_else(|_| ulid::Ulid::new()).to_string().to_lowercase()
}

macro_rules! text_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// A new id that sorts after every earlier one (between processes: to the millisecond).
            pub fn generate() -> Self {
                Self(next_ulid())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    )*};
}

text_ids! {
    /// A webhook delivery.
    DeliveryId,
    /// A run.
    RunId,
    /// A stage of a run (a matrix leg has its own).
    StageId,
    /// An entry of `on.schedule` on a default branch.
    ScheduleId,
    /// What a runner claims.
    JobId,
    /// A runner.
    RunnerId,
    /// A row of what a forge is told.
    ReportId,
    /// A token of the API.
    TokenId,
    /// An approval.
    ApprovalId,
    /// An entry of an environment's ledger.
    DeploymentId,
    /// A decision about a delivery, a run's event, an audit entry.
    EntryId,
    /// A repository: `github:123` or `local:1`. Never made by `generate`; see [`RepoId::new`].
    RepoId,
}

impl RepoId {
    /// The id of the repository with `number` at `forge`.
    pub fn new(forge: ForgeKind, number: i64) -> Self {
        Self(format!("{forge}:{number}"))
    }
}

/// Which forge a thing belongs to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum ForgeKind {
    /// GitHub, or a GitHub Enterprise Server.
    Github,
    /// Bare repositories on this machine.
    Local,
}
