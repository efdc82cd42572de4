//! Deliveries accepted a second beside the limit: the same server with one insert and commit for each request, measured in
//! the same run with the same clients. `SQLite` always; Postgres where `RIVET_BENCH_POSTGRES` names a server whose disk
//! counts (fsync on). Run with `cargo bench --bench webhook`; it prints medians of three rounds and fails nothing.

#![allow(missing_docs, reason = "a program, not an interface")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rivet::config::{Config, GithubConfig};
use rivet::context::Context;
use rivet::evaluator::Evaluator;
use rivet::forge::Forges;
use rivet::http::webhook::{self, sign};
use rivet::model::ids::ForgeKind;
use rivet::model::time::Timestamp;
use rivet::store::deliveries::NewDelivery;
use rivet::store::{DatabaseUrl, Store};
use sqlx::{Connection, Executor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECRET: &str = "a webhook secret of at least thirty-two bytes";
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;

#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p99: Duration,
}

#[tokio::main]
async fn main() {
    let seconds = std::env::var("RIVET_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    let folder = tempfile::tempdir().expect("a folder");
    compare("sqlite", DatabaseUrl::Sqlite(folder.path().join("rivet.db")), time).await;
    match std::env::var("RIVET_BENCH_POSTGRES") {
        Ok(server) => compare("postgres", fresh_database(&server).await, time).await,
        Err(_) => println!("postgres: not measured; set RIVET_BENCH_POSTGRES"),
    }
}

async fn fresh_database(server: &str) -> DatabaseUrl {
    let name = format!("rivet_bench_{}", ulid::Ulid::new().to_string().to_lowercase());
    let mut connection = sqlx::PgConnection::connect(server).await.expect("the server answers");
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
    let (base, options) = server.split_once('?').unwrap_or((server, ""));
    let base = base.rsplit_once('/').expect("an address with a database").0;
    DatabaseUrl::Postgres(format!("{base}/{name}?{options}"))
}

async fn compare(name: &str, database: DatabaseUrl, time: Duration) {
    let store = Store::open(&database).await.expect("the database opens");
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::embedded(folder.path(), ([127, 0, 0, 1], 0).into());
    config.github = Some(GithubConfig {
        app_id: 1,
        private_key: "unused".into(),
        webhook_secret: SECRET.into(),
        api_url: "http://127.0.0.1:9".parse().expect("an address"),
        server_url: "http://127.0.0.1:9".parse().expect("an address"),
    });
    let context = Context::new(store.clone(), Forges::default(), Evaluator::new("unused"), config);
    let ours = serve(webhook::router().with_state(context)).await;
    let limit = serve(Router::new().route("/webhooks/github", post(one_insert)).with_state(store)).await;
    round(ours, Duration::from_millis(500)).await;
    let (mut accepted, mut limits) = (vec![], vec![]);
    // Taken in turns, so that what disturbs one disturbs the other.
    for _ in 0..ROUNDS {
        limits.push(round(limit, time).await);
        accepted.push(round(ours, time).await);
    }
    let (ours, limit) = (median(&mut accepted), median(&mut limits));
    println!(
        "{name}: accepted {:.0}/s, p99 {:.1} ms (rounds {})",
        ours.per_second,
        millis(ours.p99),
        rounds(&accepted)
    );
    println!(
        "{name}: one insert a request {:.0}/s, p99 {:.1} ms (rounds {})",
        limit.per_second,
        millis(limit.p99),
        rounds(&limits)
    );
    println!("{name}: ratio {:.2} at {CONNECTIONS} connections", ours.per_second / limit.per_second);
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The limit: authenticated, one row, one commit, an answer.
async fn one_insert(State(store): State<Store>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    if header("x-hub-signature-256") != sign(SECRET.as_bytes(), &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let row = NewDelivery {
        forge: ForgeKind::Github,
        guid: header("x-github-delivery"),
        event: header("x-github-event"),
        headers: [("x-github-event".to_owned(), header("x-github-event"))].into(),
        payload: body.to_vec(),
        repo_id: None,
        installation_id: None,
        ignored: None,
        received_at: Timestamp::now(),
    };
    let stored = async {
        let mut tx = store.begin().await?;
        tx.record_deliveries(&[row]).await?;
        tx.commit().await
    };
    if stored.await.is_ok() { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn round(address: SocketAddr, time: Duration) -> Figures {
    let client = reqwest::Client::builder().pool_max_idle_per_host(CONNECTIONS).build().expect("a client");
    let body = Bytes::from(payload());
    let signature: Arc<str> = sign(SECRET.as_bytes(), &body).into();
    let end = Instant::now() + time;
    let started = Instant::now();
    let workers = (0..CONNECTIONS).map(|_| {
        let (client, body, signature) = (client.clone(), body.clone(), signature.clone());
        tokio::spawn(async move {
            let mut times = vec![];
            while Instant::now() < end {
                let request = client
                    .post(format!("http://{address}/webhooks/github"))
                    .header("content-type", "application/json")
                    .header("x-github-event", "push")
                    .header("x-github-delivery", guid())
                    .header("x-hub-signature-256", &*signature)
                    .body(body.clone());
                let begun = Instant::now();
                let status = request.send().await.expect("an answer").status();
                assert_eq!(status.as_u16(), 202);
                times.push(begun.elapsed());
            }
            times
        })
    });
    let mut times = vec![];
    for worker in futures::future::join_all(workers).await {
        times.extend(worker.expect("a worker that ends"));
    }
    let took = started.elapsed().as_secs_f64();
    times.sort();
    Figures { per_second: times.len() as f64 / took, p99: times[times.len() * 99 / 100] }
}

/// A push of 10 KB, as large as usual ones are.
fn payload() -> String {
    let sha = |digit: &str| digit.repeat(40);
    format!(
        r#"{{"ref":"refs/heads/main","before":"{}","after":"{}","head_commit":{{"id":"{}","message":"Fix"}},
        "repository":{{"id":4711,"name":"app","full_name":"acme/app","owner":{{"login":"acme"}},"default_branch":"main"}},
        "installation":{{"id":7}},"sender":{{"login":"ada"}},"pad":"{}"}}"#,
        sha("1"),
        sha("2"),
        sha("2"),
        "x".repeat(9_700)
    )
}

fn guid() -> String {
    let hex = format!("{:032x}", u128::from(ulid::Ulid::new()));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn median(rounds: &mut [Figures]) -> Figures {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

fn rounds(rounds: &[Figures]) -> String {
    rounds.iter().map(|figures| format!("{:.0}", figures.per_second)).collect::<Vec<_>>().join(" ")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
