//! Browser sessions. The cookie holds a random id; the row is found by its hash and can be ended from the server.

use super::{Result, Tx, with_conn};
use crate::model::role::Role;
use crate::model::time::Timestamp;

/// One signed-in browser.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Session {
    /// What it may do.
    pub role: Role,
    /// Who it is.
    pub actor: String,
    /// What every form must carry.
    pub csrf: String,
    /// When it signed in.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_seen_at: Timestamp,
    /// When it ends however busy it is.
    pub expires_at: Timestamp,
}

impl Tx {
    /// Keeps a session.
    pub async fn add_session(&mut self, id_hash: &str, session: &Session) -> Result<()> {
        let sql = "INSERT INTO session (id_hash, role, actor, csrf, created_at, last_seen_at, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        with_conn!(self, conn => sqlx::query(sql)
            .bind(id_hash)
            .bind(session.role)
            .bind(&session.actor)
            .bind(&session.csrf)
            .bind(session.created_at)
            .bind(session.last_seen_at)
            .bind(session.expires_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// The session with this id's hash.
    pub async fn session(&mut self, id_hash: &str) -> Result<Option<Session>> {
        let sql = "SELECT role, actor, csrf, created_at, last_seen_at, expires_at FROM session WHERE id_hash = $1";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(id_hash).fetch_optional(conn).await?))
    }

    /// Notes that a session was used.
    pub async fn touch_session(&mut self, id_hash: &str, now: Timestamp) -> Result<()> {
        let sql = "UPDATE session SET last_seen_at = $2 WHERE id_hash = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(id_hash).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Ends a session, and clears away those that ended by themselves.
    pub async fn end_session(&mut self, id_hash: &str, now: Timestamp) -> Result<()> {
        let sql = "DELETE FROM session WHERE id_hash = $1 OR expires_at < $2";
        with_conn!(self, conn => sqlx::query(sql).bind(id_hash).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }
}
