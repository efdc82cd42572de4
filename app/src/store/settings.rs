//! What an instance remembers about itself, by key.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

/// The id of the key the stored secrets are encrypted with.
pub const SECRET_KEY_ID: &str = "secret_key_id";

/// The hash of the one-time token that claims the instance.
pub const SETUP_TOKEN: &str = "setup_token";
/// When the instance was claimed.
pub const SETUP_CLAIMED_AT: &str = "setup_claimed_at";
/// Since when the settings' previous webhook secret is known, by its hash.
pub const PREVIOUS_SECRET_SINCE: &str = "previous_webhook_secret_since";

impl Tx {
    /// The value of `key`.
    pub async fn setting(&mut self, key: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM setting WHERE key = $1";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(key).fetch_optional(conn).await?))
    }

    /// Sets `key`.
    pub async fn save_setting(&mut self, key: &str, value: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO setting (key, value, updated_at) VALUES ($1, $2, $3)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
        with_conn!(self, conn => sqlx::query(sql).bind(key).bind(value).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Takes `key` away where it has this value: of several who try, one did.
    pub async fn take_setting(&mut self, key: &str, value: &str) -> Result<bool> {
        let sql = "DELETE FROM setting WHERE key = $1 AND value = $2";
        let done =
            with_conn!(self, conn => sqlx::query(sql).bind(key).bind(value).execute(conn).await?.rows_affected());
        Ok(done == 1)
    }

    /// Sets `key` where nobody has yet, and answers what it is now: of two instances that start together, one decides.
    pub async fn setting_or(&mut self, key: &str, value: &str, now: Timestamp) -> Result<String> {
        let sql = "INSERT INTO setting (key, value, updated_at) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING";
        with_conn!(self, conn => sqlx::query(sql).bind(key).bind(value).bind(now).execute(conn).await?.rows_affected());
        Ok(self.setting(key).await?.unwrap_or_else(|| value.to_owned()))
    }
}
