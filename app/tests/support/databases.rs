//! A database of its own for each test: SQLite in a file, Postgres in a cluster that ends with the test's process.

use rivet::store::DatabaseUrl;
use sqlx::AssertSqlSafe;
use std::future::Future;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Makes each named function a test on SQLite and one on Postgres: `on_both_databases!(crate::world::run; name, …)`, where
/// `run(Kind, test)` makes what the test is given.
#[allow(unused_macros, reason = "each test binary uses another part of this")]
macro_rules! on_both_databases {
    ($run:path; $($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { $run($crate::databases::Kind::Sqlite, super::$name); })*
        }
        mod postgres {
            $(#[test] fn $name() { $run($crate::databases::Kind::Postgres, super::$name); })*
        }
    };
}
#[allow(unused_imports, reason = "each test binary uses another part of this")]
pub(crate) use on_both_databases;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// Runs an asynchronous test.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

/// A new, empty database; SQLite's file is in `folder`.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub async fn fresh(kind: Kind, folder: &Path) -> DatabaseUrl {
    match kind {
        Kind::Sqlite => DatabaseUrl::Sqlite(folder.join("rivet.db")),
        Kind::Postgres => {
            fresh_on(&std::env::var("RIVET_TEST_POSTGRES").unwrap_or_else(|_| own_server().to_owned())).await
        }
    }
}

async fn fresh_on(server: &str) -> DatabaseUrl {
    let name = format!("test_{}", &rivet::http::auth::random_token("")[..16]);
    let pool = connect(server).await;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    pool.close().await;
    let mut url = url::Url::parse(server).unwrap();
    url.set_path(&name);
    DatabaseUrl::Postgres(url.into())
}

/// Connects to a server that may still be starting.
async fn connect(server: &str) -> sqlx::PgPool {
    for _ in 0..200 {
        match sqlx::PgPool::connect(server).await {
            Ok(pool) => return pool,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("Postgres did not start; set RIVET_TEST_POSTGRES to the address of a server to use that one")
}

/// A new database on the cluster of this process, whatever the settings say: one that may be stopped.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub async fn fresh_on_own_cluster() -> DatabaseUrl {
    fresh_on(own_server()).await
}

/// Has the cluster of this process write to the disk what it acknowledges, as a server does that counts. Call it before
/// the first database is made.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub fn be_durable() {
    DURABLE.store(true, std::sync::atomic::Ordering::Relaxed);
}

static DURABLE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Stops the cluster of this process at once, as a crash would.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub async fn stop_own_cluster() {
    let file = own_folder().join("data/postmaster.pid");
    let text = std::fs::read_to_string(file).expect("the cluster runs");
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT).unwrap();
    while Path::new("/proc").join(pid.to_string()).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts it again with what it had stored.
#[allow(dead_code, reason = "each test binary uses another part of this")]
pub fn start_own_cluster() {
    serve(&binaries(), &own_folder(), nix::unistd::geteuid().is_root());
}

fn own_folder() -> PathBuf {
    std::env::temp_dir().join(format!("rivet-postgres-{}", std::process::id()))
}

/// The cluster of this process, started when it is first asked for.
fn own_server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = own_folder();
        sweep();
        let (bin, root) = (binaries(), nix::unistd::geteuid().is_root());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        if root {
            let user = nix::unistd::User::from_name("postgres").unwrap().expect("a user postgres to run Postgres as");
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        prepare(&bin, &folder, root);
        serve(&bin, &folder, root);
        format!("postgres://postgres@localhost/postgres?host={}", folder.display())
    })
}

/// Makes the cluster's files: a copy of what an earlier process made, where one did, for that is several times faster.
fn prepare(bin: &Path, folder: &Path, root: bool) {
    let data = folder.join("data");
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("postgres starts").stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let user = nix::unistd::geteuid();
    let template = std::env::temp_dir().join(format!("rivet-initdb-{user}-{version}"));
    let copy =
        |from: &Path, to: &Path| Command::new("cp").arg("-a").arg(from).arg(to).status().is_ok_and(|s| s.success());
    if template.exists() && copy(&template, &data) {
        return;
    }
    let _ = std::fs::remove_dir_all(&data);
    let mut initdb = setpriv(root, false);
    initdb.arg(bin.join("initdb")).arg("-D").arg(&data).current_dir(folder);
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
    let made = initdb.output().expect("initdb starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Renamed when it is whole; of several processes that do so at once one succeeds.
    let whole = folder.join("template");
    if copy(&data, &whole) {
        let _ = std::fs::rename(&whole, &template);
    }
}

/// Starts the server from a thread that outlives every test: the kernel ends it with the thread that started it.
fn serve(bin: &Path, folder: &Path, root: bool) {
    let mut server = setpriv(root, true);
    server.arg(bin.join("postgres")).arg("-D").arg(folder.join("data")).current_dir(folder);
    server.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
    let hasty = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"];
    let durable = DURABLE.load(std::sync::atomic::Ordering::Relaxed);
    let hasty = hasty.into_iter().filter(|_| !durable);
    for setting in ["listen_addresses=", "max_connections=200"].into_iter().chain(hasty) {
        server.arg("-c").arg(setting);
    }
    let log = std::fs::File::create(folder.join("log")).unwrap();
    server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    std::thread::spawn(move || {
        let status = server.status();
        eprintln!("Postgres ended: {status:?}");
    });
}

/// `setpriv`, as the user Postgres insists on not being root, and to be ended with this process.
fn setpriv(root: bool, ends_with_us: bool) -> Command {
    let mut command = Command::new("setpriv");
    if root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    if ends_with_us {
        command.args(["--pdeathsig", "INT"]);
    }
    command
}

fn binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort();
    folders.extend(installed.into_iter().rev());
    let found = folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    found.expect("Postgres's initdb and postgres; install the package postgresql, or set RIVET_TEST_POSTGRES")
}

/// Removes what earlier test processes left behind.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(pid) = name.strip_prefix("rivet-postgres-") else { continue };
        let lock = std::fs::read_to_string(entry.path().join("data/postmaster.pid")).unwrap_or_default();
        let runs = |pid: &str| !pid.is_empty() && Path::new("/proc").join(pid).exists();
        if !runs(pid) && !runs(lock.lines().next().unwrap_or_default().trim()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
