//! Who may do what: what a runner fetches with, what a person may.

use super::Github;
use super::client::Purpose;
use super::payload::{clean, is_sha};
use crate::forge::people::{Account, Permission};
use crate::forge::{ForgeError, RepoFacts};
use http::Method;
use pipelines_spec::protocol::Checkout;
use serde::Deserialize;

/// A user in an answer of GitHub's.
#[derive(Deserialize)]
pub(super) struct User {
    #[serde(default)]
    login: String,
    #[serde(default)]
    id: i64,
    #[serde(default, rename = "type")]
    kind: String,
}

impl User {
    pub(super) fn into_account(self) -> Account {
        let is_bot = self.kind == "Bot" || self.login.ends_with("[bot]");
        Account { login: clean(&self.login), id: self.id, is_bot }
    }
}

#[derive(Deserialize)]
struct Membership {
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct PermissionAnswer {
    permission: String,
    user: Option<User>,
}

impl Github {
    /// See [`crate::forge::Forge::checkout`].
    pub async fn checkout(&self, repo: &RepoFacts, sha: &str) -> Result<Checkout, ForgeError> {
        if !is_sha(sha) {
            return Err(ForgeError::Refused("what is checked out is named by a commit's full id".into()));
        }
        let token = self.fresh_token(repo, Purpose::Checkout).await?;
        let server = self.server_url.as_str().trim_end_matches('/');
        let url = format!("{server}/{}/{}.git", repo.owner, repo.name);
        Ok(Checkout { url, sha: sha.to_owned(), token: Some(token) })
    }

    /// See [`crate::forge::Forge::permission`].
    pub async fn permission(&self, repo: &RepoFacts, login: &str) -> Result<(Permission, Account), ForgeError> {
        let nobody = || (Permission::None, Account { login: login.to_owned(), id: 0, is_bot: false });
        // Bots are called `name[bot]`; they may nothing here, and no other sign belongs in a login.
        if !is_login(login) {
            return Ok(nobody());
        }
        let found = self.get::<PermissionAnswer>(repo, &format!("collaborators/{login}/permission")).await;
        match found {
            Err(ForgeError::NotFound(_)) => Ok(nobody()),
            Err(error) => Err(error),
            Ok(found) => match found.user {
                Some(user) if user.login.eq_ignore_ascii_case(login) => {
                    // A word GitHub may add one day gives nothing.
                    Ok((found.permission.parse().unwrap_or(Permission::None), user.into_account()))
                }
                _ => Err(ForgeError::Refused(format!("GitHub answered about somebody else than {login}"))),
            },
        }
    }

    /// See [`crate::forge::Forge::is_team_member`].
    pub async fn is_team_member(
        &self,
        repo: &RepoFacts,
        org: &str,
        team: &str,
        login: &str,
    ) -> Result<bool, ForgeError> {
        if !is_login(org) || !is_login(login) || !is_slug(team) {
            return Ok(false);
        }
        let route = format!("/orgs/{org}/teams/{team}/memberships/{login}");
        match self.call_at::<Membership, ()>(repo, Purpose::Members, Method::GET, &route, None).await {
            Ok(found) => Ok(found.state == "active"),
            Err(ForgeError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether `text` may be a user's or an organisation's login: it becomes part of an address.
fn is_login(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(plain)
}

/// Whether `text` may be a team's name in an address.
fn is_slug(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain) && !text.bytes().all(|b| b == b'.')
}
