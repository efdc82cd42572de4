//! Who did what that matters afterwards: only added to.

use super::{Json, Result, Tx, with_conn};
use crate::model::ids::EntryId;
use crate::model::time::Timestamp;
use serde_json::Value;

/// One entry.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Audit {
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what, such as `acme/app#7`.
    pub subject: String,
    /// The rest; text from outside stays inside of strings.
    pub details: Json<Value>,
    /// When.
    pub created_at: Timestamp,
}

impl Tx {
    /// What was done to a subject, oldest first.
    pub async fn audit_actions(&mut self, subject: &str) -> Result<Vec<String>> {
        let sql = "SELECT action FROM audit WHERE subject = $1 ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(subject).fetch_all(conn).await?))
    }

    /// Writes one entry. `details` hold names, digests and reasons; never a secret.
    pub async fn audit(
        &mut self,
        actor: &str,
        action: &str,
        subject: &str,
        details: &Value,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO audit (id, actor, action, subject, details, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(EntryId::generate()).bind(actor).bind(action).bind(subject);
            query.bind(Json(details)).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// The entries about a subject, oldest first.
    pub async fn audit_of(&mut self, subject: &str) -> Result<Vec<Audit>> {
        let sql = "SELECT actor, action, subject, details, created_at FROM audit WHERE subject = $1 ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(subject).fetch_all(conn).await?))
    }
}
