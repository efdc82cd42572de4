//! Installations of the App: who let us in, and whether that still stands.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

impl Tx {
    /// Remembers what the forge last said about an installation.
    pub async fn save_installation(
        &mut self,
        id: i64,
        account: &str,
        suspended: bool,
        removed: bool,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO installation (id, account, suspended, removed, updated_at) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (id) DO UPDATE SET account = excluded.account, suspended = excluded.suspended,
                       removed = excluded.removed, updated_at = excluded.updated_at";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(id).bind(account).bind(suspended).bind(removed).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }
}
