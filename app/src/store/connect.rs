//! Opening the database: address, options, lock, migrations.

use super::wake::Wake;
use super::{Pool, Store};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A server; the text is the whole address with its password, never printed.
    Postgres(String),
    /// A file.
    Sqlite(PathBuf),
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not understood.
    #[error("the database address must begin with postgres:// or sqlite:")]
    Address,
    /// Another process holds the embedded database.
    #[error("{} is in use by another rivet process; SQLite serves exactly one. Stop that one, or use Postgres for several", .0.display())]
    InUse(PathBuf),
    /// A file could not be made.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The server or the file did not open.
    #[error("the database cannot be opened: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl FromStr for DatabaseUrl {
    type Err = ConnectError;
    fn from_str(text: &str) -> Result<Self, ConnectError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").ok_or(ConnectError::Address)?;
        Ok(Self::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // The address may hold a password.
            Self::Postgres(_) => f.write_str("postgres"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl Store {
    /// Opens the database and applies the migrations it lacks. Several instances may do so at once on Postgres: the
    /// migrator holds an advisory lock.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, ConnectError> {
        let store = match url {
            DatabaseUrl::Postgres(url) => Self::open_postgres(url).await?,
            DatabaseUrl::Sqlite(path) => Self::open_sqlite(path).await?,
        };
        match &store.pool {
            Pool::Postgres(pool) => MIGRATIONS.run(pool).await?,
            Pool::Sqlite { write, .. } => MIGRATIONS.run(write).await?,
        }
        Ok(store)
    }

    async fn open_postgres(url: &str) -> Result<Self, ConnectError> {
        let pool =
            PgPoolOptions::new().max_connections(20).acquire_timeout(Duration::from_secs(10)).connect(url).await?;
        let wake = Wake::postgres(pool.clone());
        Ok(Self { pool: Pool::Postgres(pool), wake })
    }

    async fn open_sqlite(path: &Path) -> Result<Self, ConnectError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| ConnectError::File { path: folder.to_owned(), error: e })?;
        }
        let lock = lock_file(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let read = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
        Ok(Self { pool: Pool::Sqlite { write, read }, wake: Wake::in_process(lock) })
    }
}

/// Takes the lock beside the database for the life of the process; the kernel drops it however the process ends.
fn lock_file(path: &Path) -> Result<std::fs::File, ConnectError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| ConnectError::File { path: lock_path.clone(), error: e })?;
    file.try_lock().map_err(|e| match e {
        std::fs::TryLockError::WouldBlock => ConnectError::InUse(path.to_owned()),
        std::fs::TryLockError::Error(e) => ConnectError::File { path: lock_path, error: e },
    })?;
    Ok(file)
}
