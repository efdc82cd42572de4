//! What a database lacks, asked without changing it: for operators.

use super::connect::MIGRATIONS;
use super::{ConnectError, DatabaseUrl};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};

/// The migrations of this version and those a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrations {
    /// Versions this program brings.
    pub known: Vec<i64>,
    /// Versions the database has.
    pub applied: Vec<i64>,
}

impl Migrations {
    /// Those of `url`'s database. One that does not exist yet has none.
    pub async fn of(url: &DatabaseUrl) -> Result<Self, ConnectError> {
        let applied = match url {
            DatabaseUrl::Postgres(url) => postgres(PgConnection::connect(url).await?).await?,
            DatabaseUrl::Sqlite(path) if !path.exists() => vec![],
            DatabaseUrl::Sqlite(path) => {
                sqlite(SqliteConnectOptions::new().filename(path).read_only(true).connect().await?).await?
            }
        };
        Ok(Self { known: MIGRATIONS.iter().map(|m| m.version).collect(), applied })
    }

    /// Those the database lacks.
    pub fn pending(&self) -> Vec<i64> {
        self.known.iter().filter(|v| !self.applied.contains(v)).copied().collect()
    }

    /// Those only a newer program knows.
    pub fn unknown(&self) -> Vec<i64> {
        self.applied.iter().filter(|v| !self.known.contains(v)).copied().collect()
    }
}

const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";

async fn postgres(mut connection: PgConnection) -> Result<Vec<i64>, ConnectError> {
    let exists = "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = '_sqlx_migrations'";
    let count: i64 = sqlx::query_scalar(exists).fetch_one(&mut connection).await?;
    let applied = if count == 0 { vec![] } else { sqlx::query_scalar(APPLIED).fetch_all(&mut connection).await? };
    connection.close().await?;
    Ok(applied)
}

async fn sqlite(mut connection: SqliteConnection) -> Result<Vec<i64>, ConnectError> {
    let exists = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let count: i64 = sqlx::query_scalar(exists).fetch_one(&mut connection).await?;
    let applied = if count == 0 { vec![] } else { sqlx::query_scalar(APPLIED).fetch_all(&mut connection).await? };
    connection.close().await?;
    Ok(applied)
}
