//! Tokens that let machines become runners. Only their hashes are kept.

use super::{Result, Tx, with_conn};
use crate::model::ids::TokenId;
use crate::model::runner::RegistrationToken;
use crate::model::time::Timestamp;

impl Tx {
    /// Keeps a token by its hash.
    pub async fn add_registration_token(&mut self, token: &RegistrationToken, hash: &str) -> Result<()> {
        let sql = "INSERT INTO registration_token (id, hash, name, labels, single_use, created_at, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&token.id).bind(hash).bind(&token.name).bind(&token.labels);
            let query = query.bind(token.single_use).bind(token.created_at).bind(token.expires_at);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Uses the token with this hash, in one step: of two machines that present a single-use token at once, one gets it.
    /// `None` where there is none that works.
    pub async fn use_registration_token(&mut self, hash: &str, now: Timestamp) -> Result<Option<RegistrationToken>> {
        let sql = "UPDATE registration_token SET used_at = $2
                   WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
                         AND (NOT single_use OR used_at IS NULL)
                   RETURNING *";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(hash).bind(now).fetch_optional(conn).await?))
    }

    /// Every token that still works, newest first.
    pub async fn registration_tokens(&mut self, now: Timestamp) -> Result<Vec<RegistrationToken>> {
        let sql = "SELECT * FROM registration_token
                   WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)
                         AND (NOT single_use OR used_at IS NULL)
                   ORDER BY id DESC";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(now).fetch_all(conn).await?))
    }

    /// Takes a token back; `false` where there is none that was not taken back before.
    pub async fn revoke_registration_token(&mut self, id: &TokenId, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE registration_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let done = with_conn!(self, conn => sqlx::query(sql).bind(id).bind(now).execute(conn).await?.rows_affected());
        Ok(done > 0)
    }
}
