//! An open database for each test that needs nothing but a store.

use crate::databases::{self, Kind};
use rivet::store::Store;

/// An open store, and what must live as long.
pub struct Database {
    pub store: Store,
    pub folder: tempfile::TempDir,
}

pub async fn open(kind: Kind) -> Database {
    let folder = tempfile::tempdir().unwrap();
    let url = databases::fresh(kind, folder.path()).await;
    Database { store: Store::open(&url).await.unwrap(), folder }
}

/// Makes a test of each function on each database; what it is given is the file's own `World`.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let database = $crate::stores::open($crate::databases::Kind::Sqlite).await;
                super::$name($crate::World::new(database).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let database = $crate::stores::open($crate::databases::Kind::Postgres).await;
                super::$name($crate::World::new(database).await).await;
            })*
        }
    };
}
