//! What an instance remembers about itself, by key.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

/// The id of the key the stored secrets are encrypted with.
pub const SECRET_KEY_ID: &str = "secret_key_id";

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

    /// Sets `key` where nobody has yet, and answers what it is now: of two instances that start together, one decides.
    pub async fn setting_or(&mut self, key: &str, value: &str, now: Timestamp) -> Result<String> {
        let sql = "INSERT INTO setting (key, value, updated_at) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING";
        with_conn!(self, conn => sqlx::query(sql).bind(key).bind(value).bind(now).execute(conn).await?.rows_affected());
        Ok(self.setting(key).await?.unwrap_or_else(|| value.to_owned()))
    }
}
