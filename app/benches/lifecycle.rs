//! Whole job lifecycles a second: claim, start, a piece of log, finish with what follows from it (the next stage, or the
//! run's end, and the report that is due), over real HTTP, in 16 slots. Beside it, in the same run and on the same database,
//! bare commits of one row each, also 16 at a time: what the database itself lets through.
//!
//! `cargo bench --bench lifecycle` takes a minute; `cargo bench --profile dev --bench lifecycle` needs no release build.
//! `RIVET_BENCH_RUNS` (200) says how many runs of two stages each of the three rounds has, `RIVET_BENCH_DATABASES=postgres`
//! measures one. The Postgres is one of its own that writes to the disk. It prints medians and fails nothing.

#![allow(missing_docs, reason = "a program, not an interface")]

#[path = "../tests/support/databases.rs"]
mod databases;
#[path = "../tests/support/fake_github/mod.rs"]
mod fake_github;
#[path = "../tests/support/load.rs"]
mod load;

use databases::Kind;
use load::{Load, Pushes, Runner, STAGES, quantile};
use rivet::model::ids::ForgeKind;
use rivet::model::time::Timestamp;
use rivet::store::Store;
use rivet::store::deliveries::NewDelivery;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SLOTS: usize = 16;
const REPOS: usize = 8;
const ROUNDS: usize = 3;
const COMMITS_FOR: Duration = Duration::from_secs(2);

/// Claim, start, log, finish.
type Times = [Duration; 4];

fn main() {
    databases::be_durable();
    let runs = std::env::var("RIVET_BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(200);
    let wanted = std::env::var("RIVET_BENCH_DATABASES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    let build = if cfg!(debug_assertions) { "a development build" } else { "a release build" };
    println!("{ROUNDS} rounds of {runs} runs × {STAGES} stages, {SLOTS} slots, {build}");
    for (name, kind) in [("sqlite", Kind::Sqlite), ("postgres", Kind::Postgres)] {
        if wanted.split(',').any(|one| one.trim() == name) {
            databases::block_on(measure(name, kind, runs));
        }
    }
}

async fn measure(name: &str, kind: Kind, runs: usize) {
    let (mut rates, mut limits, mut times) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let database = databases::fresh(kind, folder.path()).await;
        let mut load = Load::start(database, folder, 0, 0).await;
        let pushes: Vec<Pushes> =
            (0..REPOS).map(|number| load.repo(&format!("acme/app-{number}"), runs.div_ceil(REPOS))).collect();
        load.push_all(&pushes, 8).await;
        load.rest().await;
        let jobs = REPOS * runs.div_ceil(REPOS) * STAGES;
        limits.push(commits(&load.context.store).await);
        rates.push(lifecycles(&load.url, jobs, &mut times).await);
        load.stop().await;
    }
    let (rate, limit) = (median(&mut rates), median(&mut limits));
    println!(
        "{name}: {rate:.0} lifecycles/s (rounds {}); {limit:.0} bare commits/s (rounds {}); ratio {:.3}",
        rounds(&rates),
        rounds(&limits),
        rate / limit
    );
    let of = |what: &str, part: &dyn Fn(&Times) -> Duration| {
        let times: Vec<Duration> = times.iter().map(part).collect();
        let millis = |permille| quantile(&times, permille).as_secs_f64() * 1000.0;
        format!("{what} {:.1} / {:.1}", millis(500), millis(990))
    };
    println!(
        "{name}: p50 / p99 in ms: {}, {}, {}, {}, {}",
        of("claim", &|times| times[0]),
        of("start", &|times| times[1]),
        of("log", &|times| times[2]),
        of("finish", &|times| times[3]),
        of("all", &|times| times.iter().sum())
    );
}

/// Has every job done; answers how many a second.
async fn lifecycles(url: &str, jobs: usize, times: &mut Vec<Times>) -> f64 {
    let (done, took) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
    let mut slots = vec![];
    let runners =
        futures::future::join_all((0..SLOTS).map(|n| async move { Runner::register(url, &format!("slot-{n}")).await }));
    let runners = runners.await;
    let begun = Instant::now();
    for runner in runners {
        let (done, took) = (done.clone(), took.clone());
        slots.push(tokio::spawn(async move {
            while done.load(Ordering::Relaxed) < jobs {
                let claimed = Instant::now();
                for job in runner.claim(1, 0).await {
                    let claim = claimed.elapsed();
                    let [start, log, finish] = runner.run(&job).await;
                    took.lock().unwrap().push([claim, start, log, finish]);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    for slot in slots {
        slot.await.expect("a slot that ends");
    }
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    times.append(&mut took.lock().unwrap());
    rate
}

/// One small row and one commit, again and again, in as many tasks; answers how many a second.
async fn commits(store: &Store) -> f64 {
    let begun = Instant::now();
    let tasks = (0..SLOTS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut count = 0_usize;
            while begun.elapsed() < COMMITS_FOR {
                let mut tx = store.begin().await.expect("a transaction");
                tx.record_deliveries(&[row()]).await.expect("a row");
                tx.commit().await.expect("a commit");
                count += 1;
            }
            count
        })
    });
    let counts = futures::future::join_all(tasks).await;
    let all: usize = counts.into_iter().map(|count| count.expect("a task that ends")).sum();
    all as f64 / begun.elapsed().as_secs_f64()
}

fn row() -> NewDelivery {
    NewDelivery {
        forge: ForgeKind::Github,
        guid: ulid::Ulid::new().to_string(),
        event: "ping".to_owned(),
        headers: [].into(),
        payload: b"{}".to_vec(),
        repo_id: None,
        installation_id: None,
        ignored: Some("a measurement".to_owned()),
        received_at: Timestamp::now(),
    }
}

fn median(rounds: &mut [f64]) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn rounds(rounds: &[f64]) -> String {
    rounds.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(" ")
}
