//! Definition files, kept once by content: what a run was planned from is what its runners are handed.

use super::{Error, Json, Result, Tx, with_conn};
use crate::model::time::Timestamp;
use pipelines_spec::plan::digest;
use pipelines_spec::protocol::Sources;

impl Tx {
    /// Stores the files of a commit and answers their digest.
    pub async fn save_bundle(&mut self, sources: &Sources, now: Timestamp) -> Result<String> {
        let sql =
            "INSERT INTO bundle (digest, sources, created_at) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING";
        let key = digest(sources);
        with_conn!(self, conn => {
            sqlx::query(sql).bind(&key).bind(Json(sources)).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(key)
    }

    /// The files with this digest.
    pub async fn bundle(&mut self, digest: &str) -> Result<Sources> {
        let sql = "SELECT sources FROM bundle WHERE digest = $1";
        let found: Option<Json<Sources>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(digest).fetch_optional(conn).await?);
        found.map(|sources| sources.0).ok_or(Error::NotFound)
    }
}
