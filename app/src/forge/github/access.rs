//! Who may do what: what a runner fetches with, what a person may, what the App itself is.

use super::Github;
use super::client::{PAGE, Purpose};
use super::payload::is_sha;
use crate::forge::{ForgeError, RepoFacts};
use pipelines_spec::protocol::Checkout;
use serde::Deserialize;

/// What GitHub says the App is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppFacts {
    /// Its id.
    pub id: i64,
    /// The name in its address.
    #[serde(default)]
    pub slug: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// One installation of the App.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationFacts {
    /// Its id.
    pub id: i64,
    /// Its account's login.
    pub account: String,
    /// Whether it is suspended.
    pub suspended: bool,
}

#[derive(Deserialize)]
struct Installation {
    id: i64,
    account: Option<User>,
    suspended_at: Option<String>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    login: String,
    #[serde(default)]
    id: i64,
}

#[derive(Deserialize)]
struct Permission {
    permission: String,
    user: Option<User>,
}

impl Github {
    /// See [`crate::forge::Forge::checkout`].
    pub async fn checkout(&self, repo: &RepoFacts, sha: &str) -> Result<Checkout, ForgeError> {
        if !is_sha(sha) {
            return Err(ForgeError::Refused("what is checked out is named by a commit's full id".into()));
        }
        let token = self.token_for(repo, Purpose::Checkout).await?;
        let server = self.server_url.as_str().trim_end_matches('/');
        let url = format!("{server}/{}/{}.git", repo.owner, repo.name);
        Ok(Checkout { url, sha: sha.to_owned(), token: Some(token) })
    }

    /// See [`crate::forge::Forge::permission`].
    pub async fn permission(&self, repo: &RepoFacts, login: &str) -> Result<(String, i64), ForgeError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        // Bots are called `name[bot]`; they may nothing here, and no other sign belongs in a login.
        if login.is_empty() || login.len() > 100 || !login.bytes().all(plain) {
            return Ok(("none".to_owned(), 0));
        }
        let found = self.get::<Permission>(repo, &format!("collaborators/{login}/permission")).await;
        match found {
            Err(ForgeError::NotFound(_)) => Ok(("none".to_owned(), 0)),
            Err(error) => Err(error),
            Ok(found) => match found.user {
                Some(user) if user.login.eq_ignore_ascii_case(login) => Ok((found.permission, user.id)),
                _ => Err(ForgeError::Refused(format!("GitHub answered about somebody else than {login}"))),
            },
        }
    }

    /// Asks GitHub who we are: whether address, id and key fit together.
    pub async fn verify(&self) -> Result<AppFacts, ForgeError> {
        self.get_as_app("/app").await
    }

    /// Every installation of the App.
    pub async fn installations(&self) -> Result<Vec<InstallationFacts>, ForgeError> {
        let mut all = vec![];
        for page in 1.. {
            let listed: Vec<Installation> =
                self.get_as_app(&format!("/app/installations?per_page={PAGE}&page={page}")).await?;
            let count = listed.len();
            all.extend(listed.into_iter().map(|found| InstallationFacts {
                id: found.id,
                account: found.account.map(|account| account.login).unwrap_or_default(),
                suspended: found.suspended_at.is_some(),
            }));
            if count < PAGE {
                break;
            }
        }
        Ok(all)
    }
}
