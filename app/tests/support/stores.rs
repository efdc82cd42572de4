//! A database of its own for each test: `SQLite` always, Postgres where `RIVET_TEST_POSTGRES` names a server.

use rivet::store::{DatabaseUrl, Store};
use sqlx::{Connection, Executor};

/// An open store, and what must live as long.
pub struct Database {
    pub store: Store,
    pub folder: tempfile::TempDir,
}

pub async fn sqlite() -> Option<Database> {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("rivet.db"));
    Some(Database { store: Store::open(&url).await.unwrap(), folder })
}

pub async fn postgres() -> Option<Database> {
    let server = std::env::var("RIVET_TEST_POSTGRES").ok()?;
    let name = format!("rivet_{}", ulid::Ulid::new().to_string().to_lowercase());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (base, options) = server.split_once('?').unwrap_or((&server, ""));
    let base = base.rsplit_once('/').unwrap().0;
    let url = DatabaseUrl::Postgres(format!("{base}/{name}?{options}"));
    Some(Database { store: Store::open(&url).await.unwrap(), folder: tempfile::tempdir().unwrap() })
}

/// Makes a test of each function on each database; what it is given is the file's own `World`.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                if let Some(database) = $crate::stores::sqlite().await {
                    super::$name($crate::World::new(database).await).await;
                }
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(database) = $crate::stores::postgres().await {
                    super::$name($crate::World::new(database).await).await;
                }
            })*
        }
    };
}
