//! Who somebody is at a forge, and what they may do in a repository.

use serde::{Deserialize, Serialize};

/// A user of the forge. The number identifies; the login is for people and may change hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The login.
    pub login: String,
    /// The forge's numeric id; 0 where the forge did not say.
    pub id: i64,
    /// Whether it is a bot or an App's user.
    pub is_bot: bool,
}

impl Account {
    /// Somebody the forge does not name: a deleted user, or an event without a sender.
    pub fn ghost() -> Self {
        Self { login: "ghost".to_owned(), id: 0, is_bot: false }
    }

    /// Whether both are the same user, told by the number.
    pub fn is(&self, other: &Self) -> bool {
        self.id > 0 && self.id == other.id
    }
}

/// What somebody may do in a repository, least first. GitHub counts `triage` as read and `maintain` as write.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Permission {
    /// Nothing, or nobody knows.
    None,
    /// Look.
    Read,
    /// Push.
    Write,
    /// Everything.
    Admin,
}
