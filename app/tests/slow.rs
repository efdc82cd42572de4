//! Clients that only want to hold a server: slow headers, slow bodies, floods of unsigned deliveries. Healthy deliveries
//! are taken meanwhile.

#[path = "support/databases.rs"]
mod databases;

use databases::Kind;
use rivet::config::{Config, GithubConfig};
use rivet::context::Context;
use rivet::evaluator::Evaluator;
use rivet::forge::Forges;
use rivet::http::webhook::sign;
use rivet::store::Store;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SECRET: &str = "a webhook secret of at least thirty-two bytes";

struct Server {
    address: SocketAddr,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config { database: database.clone(), ..Config::embedded(folder.path(), address) };
        config.github = Some(GithubConfig {
            app_id: 1,
            private_key: "unused".into(),
            webhook_secret: SECRET.into(),
            api_url: "http://127.0.0.1:9".parse().unwrap(),
            server_url: "http://127.0.0.1:9".parse().unwrap(),
        });
        let store = Store::open(&database).await.unwrap();
        let context = Context::new(store, Forges::default(), Evaluator::new("unused"), config);
        let router = rivet::http::router(context.clone());
        tokio::spawn(rivet::http::server::serve(listener, router, context.shutdown.clone()));
        Self { address, http: reqwest::Client::new(), _folder: folder }
    }

    /// A ping; signed where `signed`.
    async fn ping(&self, number: usize, signed: bool) -> u16 {
        let body = r#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
        let request = self.http.post(format!("http://{}/webhooks/github", self.address));
        let request = request.header("content-type", "application/json").header("x-github-event", "ping");
        let mut request = request.header("x-github-delivery", format!("00000000-0000-0000-0000-{number:012}"));
        if signed {
            request = request.header("x-hub-signature-256", sign(SECRET.as_bytes(), body.as_bytes()));
        }
        request.body(body).send().await.unwrap().status().as_u16()
    }

    /// Sends `begin`, then `drop` again and again; answers what came back and after how long it was over.
    async fn drip(&self, begin: &str, drop: &str) -> (String, Duration) {
        let begun = Instant::now();
        let (mut input, mut output) = TcpStream::connect(self.address).await.unwrap().into_split();
        let (begin, drop) = (begin.to_owned(), drop.to_owned());
        let dripping = tokio::spawn(async move {
            let _ = output.write_all(begin.as_bytes()).await;
            while output.write_all(drop.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(40), input.read_to_end(&mut answer)).await;
        dripping.abort();
        (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
    }
}

async fn slow_clients_are_cut_off_and_healthy_ones_are_served(server: Server) {
    let head = "POST /webhooks/github HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-github-event: push\r\n\
                x-github-delivery: 00000000-0000-0000-0000-999999999999\r\n";
    let signature = format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64));
    let body = format!("{head}{signature}content-length: 1000000\r\n\r\n{{");
    let headers = futures::future::join_all((0..20).map(|_| server.drip(head, "x-more: 1\r\n")));
    let bodies = futures::future::join_all((0..20).map(|_| server.drip(&body, " ")));
    let silent = futures::future::join_all((0..20).map(|_| server.drip(&body, "")));
    let healthy = async {
        let mut slowest = Duration::ZERO;
        for number in 0..40 {
            let begun = Instant::now();
            assert_eq!(server.ping(number, true).await, 200);
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        slowest
    };
    let (headers, bodies, silent, slowest) = tokio::join!(headers, bodies, silent, healthy);
    for (answer, time) in bodies.iter().chain(&silent) {
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("webhook.slow"), "{answer}");
        assert!(*time < Duration::from_secs(15), "{time:?}");
    }
    for (answer, time) in &headers {
        assert!(!answer.contains(" 200 ") && *time < Duration::from_secs(25), "{time:?} {answer}");
    }
    println!("the slowest healthy delivery took {slowest:?}");
}

async fn unsigned_requests_are_limited_and_signed_ones_are_not(server: Server) {
    let answers = futures::future::join_all((0..1500).map(|n| server.ping(n, false))).await;
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert!(answers.iter().all(|status| matches!(status, 401 | 429)), "{answers:?}");
    assert!(refused > 0 && answers.len() - refused >= 500, "{refused} of {}", answers.len());
    assert_eq!(server.ping(5000, true).await, 200, "a signed one is taken");
}

/// The most memory this process has used at once, in bytes: server and clients together.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A push of 25 MiB.
fn large() -> bytes::Bytes {
    let mut body = r#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000001",
        "after":"0000000000000000000000000000000000000002","head_commit":{"id":"0000000000000000000000000000000000000002",
        "message":"Fix"},"repository":{"id":1,"name":"app","full_name":"acme/app","owner":{"login":"acme"},
        "default_branch":"main"},"installation":{"id":7},"sender":{"login":"ada"},"pad":""#
        .to_owned();
    body.push_str(&"x".repeat((25 << 20) - 2 - body.len()));
    body.push_str("\"}");
    body.into()
}

async fn a_hundred_large_deliveries_at_once_stay_within_memory(server: Server) {
    let body = large();
    let (right, wrong) = (sign(SECRET.as_bytes(), &body), sign(b"another secret", &body));
    let send = |number: usize| {
        let signature = if number.is_multiple_of(2) { &right } else { &wrong };
        let request = server.http.post(format!("http://{}/webhooks/github", server.address));
        let request = request.header("content-type", "application/json").header("x-github-event", "push");
        let request = request.header("x-github-delivery", format!("00000000-0000-0000-0001-{number:012}"));
        let request = request.header("x-hub-signature-256", signature).body(body.clone());
        async move { (number.is_multiple_of(2), request.send().await.map(|answer| answer.status().as_u16())) }
    };
    let healthy = async {
        let mut times = vec![];
        for number in 0..40 {
            let begun = Instant::now();
            assert_eq!(server.ping(number, true).await, 200);
            times.push(begun.elapsed());
        }
        times.sort();
        times
    };
    let (answers, times) = tokio::join!(futures::future::join_all((0..100).map(send)), healthy);
    let of = |signed: bool, status: u16| {
        answers.iter().filter(|(is, answer)| *is == signed && answer.as_ref().is_ok_and(|got| *got == status)).count()
    };
    let (taken, forged, later) = (of(true, 202), of(false, 401), of(true, 503) + of(false, 503));
    // One whose connection was closed while it was still sending may not have read why.
    let cut = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    println!(
        "{taken} taken, {forged} forged, {later} to come later, {cut} cut off; peak {} MiB; healthy p50 {:?}, slowest {:?}",
        peak() >> 20,
        times[20],
        times[39]
    );
    assert_eq!(taken + forged + later + cut, 100, "{answers:?}");
    assert!(taken > 0, "{answers:?}");
    assert!(peak() < 512 << 20, "{} MiB", peak() >> 20);
    assert!(times[20] < Duration::from_secs(1), "{times:?}");
    // What was to come later can come now.
    assert_eq!(send(1000).await.1.unwrap(), 202);
}

fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Server) -> F) {
    databases::block_on(async { test(Server::new(kind).await).await });
}

databases::on_both_databases!(
    crate::run;
    slow_clients_are_cut_off_and_healthy_ones_are_served,
    unsigned_requests_are_limited_and_signed_ones_are_not,
    a_hundred_large_deliveries_at_once_stay_within_memory,
);
