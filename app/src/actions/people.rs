//! Who somebody is and what they may do, asked of the forge at the moment they act. Nothing an event says of its sender
//! counts: names change hands, and what an event claims was true when it was written.

use crate::forge::people::{Account, Permission};
use crate::forge::{Forge, ForgeError, RepoFacts};

/// Somebody the forge vouched for just now. Made only by [`ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    account: Account,
    permission: Permission,
}

impl Person {
    /// Who.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What they may do in the repository they were asked about.
    pub fn permission(&self) -> Permission {
        self.permission
    }

    /// Whether they may do at least that.
    pub fn may(&self, least: Permission) -> bool {
        self.permission >= least
    }
}

/// Why nobody vouched for somebody. Always a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotConfirmed {
    /// The forge gave no answer, for this reason: it may be tried again.
    #[error("GitHub did not confirm your permission ({0}). Nothing was done; try again.")]
    Unanswered(ForgeError),
    /// The login belongs to somebody else than the event said.
    #[error("{0} is not the account that asked.")]
    Another(String),
}

/// Asks what `claimed` may do in `repo`. The forge's own number of the login must be the claimed one.
pub async fn ask(forge: &Forge, repo: &RepoFacts, claimed: &Account) -> Result<Person, NotConfirmed> {
    let (permission, account) = forge.permission(repo, &claimed.login).await.map_err(NotConfirmed::Unanswered)?;
    // Who may nothing needs no name: the forge does not tell the number of somebody it does not know.
    if permission == Permission::None {
        return Ok(Person { account: claimed.clone(), permission });
    }
    if !account.is(claimed) {
        return Err(NotConfirmed::Another(claimed.login.clone()));
    }
    Ok(Person { account, permission })
}
