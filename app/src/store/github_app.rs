//! The App that was set up on the instance's own page, and the ways to GitHub and back that were begun there.

use super::{Error, Result, Tx, with_conn};
use crate::model::time::Timestamp;

/// The App's only row.
pub const APP_ROW: &str = "app";

/// The App as it is kept; its secrets are sealed elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredApp {
    /// GitHub's number of it.
    pub app_id: i64,
    /// The name in its address.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The login of whom it belongs to.
    pub owner: String,
    /// Its page.
    pub html_url: String,
    /// Where its API is.
    pub api_url: String,
    /// Where git and people find it.
    pub server_url: String,
    /// Its client id.
    pub client_id: String,
    /// Another one after every change.
    pub revision: String,
    /// Since when a webhook secret is accepted that GitHub was not told yet.
    pub next_secret_at: Option<Timestamp>,
    /// How long the secret before this one is accepted.
    pub previous_secret_until: Option<Timestamp>,
    /// When it was set up.
    pub created_at: Timestamp,
}

/// What was noted when a browser left for GitHub.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SetupState {
    /// The hash of the session that left.
    pub session_hash: String,
    /// Where the API is that the App is made with.
    pub api_url: String,
    /// Where GitHub is.
    pub server_url: String,
    /// When it is worth nothing any more.
    pub expires_at: Timestamp,
}

impl Tx {
    /// The App, where one was set up.
    pub async fn github_app(&mut self) -> Result<Option<StoredApp>> {
        let sql =
            "SELECT app_id, slug, name, owner, html_url, api_url, server_url, client_id, revision, next_secret_at,
                       previous_secret_until, created_at
                   FROM github_app WHERE id = $1";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(APP_ROW).fetch_optional(conn).await?))
    }

    /// What changes whenever the App does.
    pub async fn github_app_revision(&mut self) -> Result<Option<String>> {
        let sql = "SELECT revision FROM github_app WHERE id = $1";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(APP_ROW).fetch_optional(conn).await?))
    }

    /// Keeps a new App; [`Error::Conflict`] where there is one already.
    pub async fn add_github_app(&mut self, app: &StoredApp) -> Result<()> {
        let sql = "INSERT INTO github_app (id, app_id, slug, name, owner, html_url, api_url, server_url, client_id,
                       revision, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT (id) DO NOTHING";
        let done = with_conn!(self, conn => sqlx::query(sql)
            .bind(APP_ROW)
            .bind(app.app_id)
            .bind(&app.slug)
            .bind(&app.name)
            .bind(&app.owner)
            .bind(&app.html_url)
            .bind(&app.api_url)
            .bind(&app.server_url)
            .bind(&app.client_id)
            .bind(&app.revision)
            .bind(app.created_at)
            .execute(conn)
            .await?
            .rows_affected());
        if done == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    /// Notes that the App or one of its secrets changed; [`Error::Conflict`] where somebody else changed it first.
    pub async fn change_github_app(&mut self, app: &mut StoredApp, revision: String, now: Timestamp) -> Result<()> {
        let sql =
            "UPDATE github_app SET revision = $3, next_secret_at = $4, previous_secret_until = $5, updated_at = $6
                   WHERE id = $1 AND revision = $2";
        let done = with_conn!(self, conn => sqlx::query(sql)
            .bind(APP_ROW)
            .bind(&app.revision)
            .bind(&revision)
            .bind(app.next_secret_at)
            .bind(app.previous_secret_until)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
        if done != 1 {
            return Err(Error::Conflict);
        }
        app.revision = revision;
        Ok(())
    }

    /// Forgets the App; what it was secret about goes with it.
    pub async fn remove_github_app(&mut self) -> Result<()> {
        let sql = "DELETE FROM github_app WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(APP_ROW).execute(conn).await?.rows_affected());
        self.remove_sealed("github_app", APP_ROW).await
    }

    /// Notes that a browser leaves for GitHub, and clears away the ways that ended.
    pub async fn add_setup_state(&mut self, state_hash: &str, state: &SetupState, now: Timestamp) -> Result<()> {
        let ended = "DELETE FROM setup_state WHERE expires_at < $1";
        with_conn!(self, conn => sqlx::query(ended).bind(now).execute(conn).await?.rows_affected());
        let sql = "INSERT INTO setup_state (state_hash, session_hash, api_url, server_url, expires_at)
                   VALUES ($1, $2, $3, $4, $5)";
        with_conn!(self, conn => sqlx::query(sql)
            .bind(state_hash)
            .bind(&state.session_hash)
            .bind(&state.api_url)
            .bind(&state.server_url)
            .bind(state.expires_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Takes what was noted for a state of this session: nobody gets it twice, and no other session gets it at all.
    pub async fn take_setup_state(&mut self, state_hash: &str, session_hash: &str) -> Result<Option<SetupState>> {
        let sql = "DELETE FROM setup_state WHERE state_hash = $1 AND session_hash = $2
                   RETURNING session_hash, api_url, server_url, expires_at";
        Ok(
            with_conn!(self, conn => sqlx::query_as(sql).bind(state_hash).bind(session_hash).fetch_optional(conn).await?),
        )
    }
}
