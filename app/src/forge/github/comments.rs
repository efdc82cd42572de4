//! Comments of pull requests and receipts on them.

use super::Github;
use super::access::User;
use super::client::{PAGE, Purpose};
use super::payload::clean;
use crate::forge::comments::{Comment, Reaction};
use crate::forge::people::Account;
use crate::forge::{ForgeError, RepoFacts};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// Pages of comments that are read.
const COMMENT_PAGES: usize = 10;
/// Bytes of a comment: GitHub refuses more than 65,536 characters.
const BODY_BYTES: usize = 65_536;

#[derive(Deserialize)]
struct Told {
    id: i64,
    user: Option<User>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
}

impl From<Told> for Comment {
    fn from(told: Told) -> Self {
        Self {
            id: told.id,
            author: told.user.map_or_else(Account::ghost, User::into_account),
            body: clean(told.body.as_deref().unwrap_or_default()),
            created_at: told.created_at,
            updated_at: told.updated_at,
        }
    }
}

impl Github {
    /// See [`crate::forge::Forge::comment`].
    pub async fn comment(&self, repo: &RepoFacts, id: i64) -> Result<Comment, ForgeError> {
        let route = format!("issues/comments/{id}");
        let told: Told = self.call(repo, Purpose::Comment, Method::GET, &route, None::<&()>).await?;
        Ok(told.into())
    }

    /// See [`crate::forge::Forge::comments`].
    pub async fn comments(&self, repo: &RepoFacts, number: i64) -> Result<Vec<Comment>, ForgeError> {
        let mut all: Vec<Comment> = vec![];
        for page in 1..=COMMENT_PAGES {
            let route = format!("issues/{number}/comments?per_page={PAGE}&page={page}");
            let listed: Vec<Told> = self.call(repo, Purpose::Comment, Method::GET, &route, None::<&()>).await?;
            let count = listed.len();
            all.extend(listed.into_iter().map(Comment::from));
            if count < PAGE {
                break;
            }
        }
        Ok(all)
    }

    /// See [`crate::forge::Forge::post_comment`].
    pub async fn post_comment(&self, repo: &RepoFacts, number: i64, body: &str) -> Result<i64, ForgeError> {
        let route = format!("issues/{number}/comments");
        let body = json!({ "body": &body[..body.floor_char_boundary(BODY_BYTES)] });
        let told: Told = self.call(repo, Purpose::Comment, Method::POST, &route, Some(&body)).await?;
        Ok(told.id)
    }

    /// See [`crate::forge::Forge::edit_comment`].
    pub async fn edit_comment(&self, repo: &RepoFacts, id: i64, body: &str) -> Result<(), ForgeError> {
        let route = format!("issues/comments/{id}");
        let body = json!({ "body": &body[..body.floor_char_boundary(BODY_BYTES)] });
        let _: Value = self.call(repo, Purpose::Comment, Method::PATCH, &route, Some(&body)).await?;
        Ok(())
    }

    /// See [`crate::forge::Forge::react`].
    pub async fn react(&self, repo: &RepoFacts, comment: i64, reaction: Reaction) -> Result<(), ForgeError> {
        let route = format!("issues/comments/{comment}/reactions");
        let body = json!({ "content": reaction.to_string() });
        let _: Value = self.call(repo, Purpose::Comment, Method::POST, &route, Some(&body)).await?;
        Ok(())
    }
}
