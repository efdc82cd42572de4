//! Instances on one database, a GitHub, and a browser.

use crate::browser::Browser;
use crate::databases::{self, Kind};
use crate::fake_github::FakeGithub;
use base64::Engine as _;
use rivet::config::{Config, GithubHosts};
use rivet::context::Context;
use rivet::engine::app;
use rivet::evaluator::Evaluator;
use rivet::forge::Forges;
use rivet::http::auth::session;
use rivet::model::role::Role;
use rivet::model::time::Timestamp;
use rivet::secrets::Keyring;
use rivet::store::{ConnectError, DatabaseUrl, Store, Tx};
use sqlx::AssertSqlSafe;
use std::cell::Cell;
use std::future::Future;
use std::path::PathBuf;

/// The admin's token.
pub const ADMIN: &str = "an-admin-token-for-tests-only-0001";

/// Makes each named function, which is given a [`World`], a test on SQLite and one on Postgres.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => { crate::databases::on_both_databases!(crate::world::run; $($name),*); };
}
pub(crate) use on_both_databases;

pub fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(World) -> F) {
    databases::block_on(async { test(World::new(kind).await).await });
}

/// A master key of the letter `n`.
pub fn key(n: u8) -> String {
    base64::engine::general_purpose::STANDARD.encode([n; 32])
}

/// What instances share.
pub struct World {
    pub kind: Kind,
    pub github: FakeGithub,
    pub database: DatabaseUrl,
    folder: tempfile::TempDir,
    store: Option<Store>,
    ahead: Cell<i64>,
}

/// One running server.
pub struct Instance {
    pub context: Context,
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new(kind: Kind) -> Self {
        Self::with(kind, FakeGithub::start().await).await
    }

    /// Another database beside the same GitHub.
    pub async fn beside(world: &World) -> Self {
        Self::with(world.kind, world.github.clone()).await
    }

    async fn with(kind: Kind, github: FakeGithub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        let store = Some(Store::open(&database).await.unwrap());
        Self { kind, github, database, folder, store, ahead: Cell::new(0) }
    }

    /// Stops an instance and lets go of the database, so that the program can have it.
    pub async fn stopped(mut self, instance: Instance) -> Self {
        instance.context.shutdown.cancel();
        instance.task.await.unwrap();
        drop(instance.context);
        if let Some(store) = self.store.take() {
            store.close().await;
        }
        // What the server had begun holds the database's lock until it ends.
        while let Err(ConnectError::InUse(_)) = Store::open(&self.database).await.map(drop) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self
    }

    /// The data directory of instance `name`.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        let dir = self.folder.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The time of passes.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().plus_millis(self.ahead.get())
    }

    /// Lets time pass for passes.
    pub fn wait(&self, seconds: i64) {
        self.ahead.set(self.ahead.get() + seconds * 1000);
    }

    /// Starts an instance. On SQLite several share one open store, as parts of one process would.
    pub async fn instance(&self, name: &str) -> Instance {
        self.instance_with(name, |_| {}).await
    }

    /// The same with other settings.
    pub async fn instance_with(&self, name: &str, change: impl FnOnce(&mut Config)) -> Instance {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config {
            database: self.database.clone(),
            public_url: format!("http://{address}").parse().unwrap(),
            admin_token: Some(ADMIN.into()),
            secret_key: Some(key(1).into()),
            ..Config::embedded(&self.data_dir(name), address)
        };
        change(&mut config);
        let store = match self.kind {
            Kind::Sqlite => self.store().clone(),
            Kind::Postgres => Store::open(&self.database).await.unwrap(),
        };
        let mut forges = Forges::default();
        if let Some(github) = &config.github {
            forges.github = rivet::forge::github::Github::new(github).unwrap().into();
        }
        let context = Context::new(store, forges, Evaluator::new(env!("CARGO_BIN_EXE_rivet")), config);
        app::load(&context).await.unwrap();
        let router = rivet::http::router(context.clone());
        let task = tokio::spawn(rivet::http::server::serve(listener, router, context.shutdown.clone()));
        Instance { context, url: format!("http://{address}"), task }
    }

    /// The fake GitHub as an Enterprise Server.
    pub fn hosts(&self) -> GithubHosts {
        GithubHosts::of_server(format!("http://{}", self.github.address).parse().unwrap())
    }

    /// The keys of every instance.
    pub fn keys(&self) -> Keyring {
        Keyring::of(&Config {
            secret_key: Some(key(1).into()),
            ..Config::embedded(self.folder.path(), ([0; 4], 0).into())
        })
        .unwrap()
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("the database is open")
    }

    /// Runs one statement.
    pub async fn sql(&self, sql: &str) {
        let mut tx = self.store().begin().await.unwrap();
        match &mut tx {
            Tx::Postgres(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
            Tx::Sqlite(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
        }
        tx.commit().await.unwrap();
    }

    /// A browser somebody with `role` is signed in with.
    pub async fn session(&self, instance: &Instance, role: Role) -> Browser {
        let cookie = session::begin(&instance.context, "somebody", role, Timestamp::now()).await.unwrap();
        let mut browser = Browser::new();
        browser.cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        browser
    }

    /// The status of a delivery that is signed with what GitHub signs with.
    pub async fn deliver(&self, instance: &Instance) -> u16 {
        self.github.connect(&instance.url);
        self.github.deliver("ping", &serde_json::json!({ "zen": "Keep it logically awesome." })).await.0
    }

    /// The same, signed with `secret`.
    pub async fn deliver_with(&self, instance: &Instance, secret: &str) -> u16 {
        let before = std::mem::replace(&mut self.github.world().app.secret, secret.to_owned());
        let status = self.deliver(instance).await;
        self.github.world().app.secret = before;
        status
    }
}
