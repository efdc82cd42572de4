//! Tokens of the API. Only their hashes are kept: a dump of the database opens nothing.

use super::{Json, Result, Tx, millis, with_conn};
use crate::model::ids::TokenId;
use crate::model::role::Role;
use crate::model::time::Timestamp;

/// A token of the API, as it is kept.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The repositories it is limited to, as `owner/name`; empty: all.
    pub repos: Json<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

impl Tx {
    /// Keeps a token by its hash.
    pub async fn add_api_token(&mut self, token: &ApiToken, hash: &str) -> Result<()> {
        let sql = "INSERT INTO api_token (id, name, hash, role, repos, created_at, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        with_conn!(self, conn => sqlx::query(sql)
            .bind(&token.id)
            .bind(&token.name)
            .bind(hash)
            .bind(token.role)
            .bind(&token.repos)
            .bind(token.created_at)
            .bind(token.expires_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// The token with this hash, revoked and expired ones too: what that means is the caller's to say.
    pub async fn api_token_by_hash(&mut self, hash: &str) -> Result<Option<ApiToken>> {
        let sql = "SELECT id, name, role, repos, created_at, expires_at, revoked_at FROM api_token WHERE hash = $1";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(hash).fetch_optional(conn).await?))
    }

    /// Every token that works, newest first.
    pub async fn api_tokens(&mut self, now: Timestamp) -> Result<Vec<ApiToken>> {
        let sql = "SELECT id, name, role, repos, created_at, expires_at, revoked_at FROM api_token
                   WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) ORDER BY id DESC";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(millis(now)).fetch_all(conn).await?))
    }

    /// Takes a token back; `false` where there is none that works.
    pub async fn revoke_api_token(&mut self, id: &TokenId, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE api_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let done = with_conn!(self, conn => sqlx::query(sql).bind(id).bind(now).execute(conn).await?.rows_affected());
        Ok(done > 0)
    }
}
