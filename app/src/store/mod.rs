//! All SQL of Rivet. One text serves Postgres and SQLite; a [`Tx`] is the unit of work and every statement is one of its
//! methods, in the file of the noun it is about.
//!
//! What keeps one text enough: `$1` binds, `RETURNING`, `ON CONFLICT`, partial indexes, `UPDATE … FROM`, `IS DISTINCT
//! FROM`; types TEXT, BIGINT, BOOLEAN, BYTEA. What is off the table: arrays and `= ANY($1)`, `now()`, JSON operators,
//! `LIKE` without `lower()`, bare `sum()` (`CAST(… AS BIGINT)`), `greatest`, `ALTER COLUMN`, `ADD CONSTRAINT`, ordering by
//! free text. Where the dialects differ: how a transaction begins, `FOR UPDATE SKIP LOCKED`, and waking ([`wake`]).

pub mod approvals;
pub mod audit;
pub mod bundles;
pub mod commands;
mod connect;
pub mod decisions;
pub mod deliveries;
pub mod deployments;
pub mod environments;
pub mod firings;
pub mod github_app;
pub mod installations;
pub mod jobs;
pub mod leases;
pub mod local;
mod local_deployments;
pub mod logs;
pub mod missed;
mod pending;
pub mod registration_tokens;
pub mod reports;
pub mod repos;
pub mod retention;
pub mod runners;
pub mod runs;
pub mod schedule_views;
pub mod schedules;
pub mod sealed;
pub mod sessions;
pub mod settings;
pub mod standing;
pub mod stats;
pub mod sweeps;
pub mod tokens;
pub mod told;
pub mod triggers;
pub mod views;
pub mod wake;
pub mod writers;

use crate::model::time::Timestamp;
pub use connect::{ConnectError, DatabaseUrl};
pub use pending::Migrations;
use sqlx::{Encode, Type};
use wake::Wake;

/// The database, whichever it is. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Tells passes and long polls that there may be something to do.
    pub wake: Wake,
}

#[derive(Clone)]
enum Pool {
    Postgres(sqlx::PgPool),
    /// `write` holds one connection: SQLite has one writer, and waiting here is fairer than its busy handler.
    Sqlite {
        write: sqlx::SqlitePool,
        read: sqlx::SqlitePool,
    },
}

/// One transaction. Dropped without [`Tx::commit`], it changes nothing.
pub enum Tx {
    /// On Postgres.
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    /// On SQLite.
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

/// What a statement can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else changed the row first: read it again and decide anew.
    #[error("the row was changed by somebody else")]
    Conflict,
    /// What was named does not exist.
    #[error("no such row")]
    NotFound,
    /// The state machine refused.
    #[error("{0}")]
    Illegal(String),
    /// A stored value cannot be read: written by a newer version, or damaged.
    #[error("stored value cannot be read: {0}")]
    Damaged(String),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// What store methods answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs one body on whichever connection the transaction holds: `with_conn!(self, conn => sqlx::query(SQL).execute(conn).await?)`.
macro_rules! with_conn {
    ($tx:expr, $conn:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Postgres(tx) => {
                let $conn = &mut **tx;
                $body
            }
            $crate::store::Tx::Sqlite(tx) => {
                let $conn = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use with_conn;

impl Store {
    /// Begins a transaction that may write. On SQLite it takes the write lock at once (`BEGIN IMMEDIATE`): a deferred one
    /// that reads first would fail when it comes to write.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Pool::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// Begins a transaction that only reads; it never waits for writers.
    pub async fn read(&self) -> Result<Tx> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => Tx::Postgres(pool.begin().await?),
            Pool::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
        })
    }

    /// Whether this is the embedded database, which one process at a time may use.
    pub fn is_embedded(&self) -> bool {
        matches!(self.pool, Pool::Sqlite { .. })
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

impl Tx {
    /// Makes everything that was written durable and visible.
    pub async fn commit(self) -> Result<()> {
        match self {
            Tx::Postgres(tx) => tx.commit().await?,
            Tx::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// `FOR UPDATE SKIP LOCKED` where it exists; on SQLite the write lock is already held.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Tx::Postgres(_))
    }
}

/// JSON kept as TEXT on both databases. (sqlx's own wrapper binds JSONB on Postgres.)
#[derive(Debug, Clone, PartialEq)]
pub struct Json<T>(pub T);

impl<T, D: sqlx::Database> Type<D> for Json<T>
where
    String: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        <String as Type<D>>::type_info()
    }
    fn compatible(ty: &D::TypeInfo) -> bool {
        <String as Type<D>>::compatible(ty)
    }
}

impl<'q, T: serde::Serialize, D: sqlx::Database> Encode<'q, D> for Json<T>
where
    String: Encode<'q, D>,
{
    fn encode_by_ref(&self, buffer: &mut D::ArgumentBuffer) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        serde_json::to_string(&self.0)?.encode(buffer)
    }
}

impl<'r, T: serde::de::DeserializeOwned, D: sqlx::Database> sqlx::Decode<'r, D> for Json<T>
where
    String: sqlx::Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let text = <String as sqlx::Decode<'r, D>>::decode(value)?;
        Ok(Self(serde_json::from_str(&text)?))
    }
}

/// `now` in the unit of the database.
pub(crate) fn millis(time: Timestamp) -> i64 {
    time.0
}
