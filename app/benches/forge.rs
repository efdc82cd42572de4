//! What a load of pushes costs at the forge, and what it does to a small repository: real HTTP to a GitHub in this process,
//! the passes as a server runs them, runners that speak the protocol and do nothing. It prints figures and fails nothing but
//! what is not equal at the end.
//!
//! `cargo bench --bench forge` takes a minute (40 repositories × 5 pushes, on SQLite and on a Postgres of its own that writes
//! to the disk); `cargo bench --profile dev --bench forge` needs no release build. All of it:
//! `RIVET_BENCH_REPOS=500 RIVET_BENCH_PUSHES=20 cargo bench --bench forge`. `RIVET_BENCH_DATABASES=sqlite` measures one.
//!
//! GitHub's own limits (points a minute, creations an hour) are lifted: with them a flood takes as long as they say, and
//! the line `at GitHub's pace` says how long that is.

#![allow(missing_docs, reason = "a program, not an interface")]

#[path = "../tests/support/databases.rs"]
mod databases;
#[path = "../tests/support/fake_github/mod.rs"]
mod fake_github;
#[path = "../tests/support/load.rs"]
mod load;

use databases::Kind;
use load::{Load, Pushes, quantile};
use std::time::{Duration, Instant};

/// Pushes of the small repository in each round.
const SMALL: usize = 40;
const SENDERS: usize = 16;
const RUNNERS: usize = 4;
const SLOTS: usize = 4;
/// What one server spends a minute on one installation.
const POINTS_A_MINUTE: f64 = rivet::forge::github::POINTS_A_MINUTE;

fn main() {
    databases::be_durable();
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (repos, pushes) = (number("RIVET_BENCH_REPOS", 40), number("RIVET_BENCH_PUSHES", 5));
    let wanted = std::env::var("RIVET_BENCH_DATABASES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    let build = if cfg!(debug_assertions) { "a development build" } else { "a release build" };
    println!("{repos} repositories × {pushes} pushes of {} stages, {} slots, {build}", load::STAGES, RUNNERS * SLOTS);
    for (name, kind) in [("sqlite", Kind::Sqlite), ("postgres", Kind::Postgres)] {
        if wanted.split(',').any(|one| one.trim() == name) {
            databases::block_on(measure(name, kind, repos, pushes));
        }
    }
}

async fn measure(name: &str, kind: Kind, repos: usize, pushes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = databases::fresh(kind, folder.path()).await;
    let load = Load::start(database, folder, RUNNERS, SLOTS).await;
    let small = load.repo("acme/small", 2 * SMALL + 1);
    let flood = load.repo("acme/flood", (repos * pushes / 2).max(100));
    let all: Vec<Pushes> = (0..repos).map(|number| load.repo(&format!("acme/app-{number}"), pushes)).collect();

    // Tokens, definitions and connections of the first one are not what is measured.
    load.push(&small, 2 * SMALL).await;
    load.equal().await;
    load.github.take_calls("");
    let (alone, told) = alone(&load, &small).await;
    let calls_alone = load.github.take_calls("").len() as f64 / SMALL as f64;
    let beside = beside(&load, &small, &flood).await;
    println!(
        "{name}: push → first job of a small repository: alone p50 {:.1} ms, p99 {:.1} ms; beside a repository that pushes {} \
         times at once p50 {:.1} ms, p99 {:.1} ms: {:.1} and {:.1} times as long",
        millis(quantile(&alone, 500)),
        millis(quantile(&alone, 990)),
        flood.commits.len(),
        millis(quantile(&beside, 500)),
        millis(quantile(&beside, 990)),
        millis(quantile(&beside, 500)) / millis(quantile(&alone, 500)),
        millis(quantile(&beside, 990)) / millis(quantile(&alone, 990)),
    );
    load.equal().await;
    load.github.take_calls("");
    everything(&load, name, &all, calls_alone, quantile(&told, 500)).await;
    let mut pushed = all;
    pushed.extend([small, flood]);
    let runs = load.assert_equal(&pushed).await;
    println!("{name}: equal: {runs} runs, each shown exactly as it is stored");
    load.stop().await;
}

/// One push after the other with nothing else to do: until the job is given away, and until everything is told.
async fn alone(load: &Load, small: &Pushes) -> (Vec<Duration>, Vec<Duration>) {
    let (mut begun, mut told) = (vec![], vec![]);
    for index in 0..SMALL {
        let accepted = load.push(small, index).await;
        begun.push(load.begun(&small.commits[index]).await.saturating_duration_since(accepted));
        load.equal().await;
        told.push(accepted.elapsed());
    }
    (begun, told)
}

/// The same pushes while another repository's are worked on.
async fn beside(load: &Load, small: &Pushes, flood: &Pushes) -> Vec<Duration> {
    let flooding = load.push_all(std::slice::from_ref(flood), SENDERS);
    let pushing = async {
        let mut times = vec![];
        for index in SMALL..2 * SMALL {
            let accepted = load.push(small, index).await;
            times.push(load.begun(&small.commits[index]).await.saturating_duration_since(accepted));
            // Only while there is a flood to be beside of.
            if load.begun.lock().unwrap().len() >= small.commits.len().min(index + 2) + flood.commits.len() {
                break;
            }
        }
        times
    };
    let ((), times) = tokio::join!(flooding, pushing);
    println!("  ({} of {SMALL} pushes of the small one fell into the flood)", times.len());
    // The rest, so that each commit has its run.
    for index in SMALL + times.len()..2 * SMALL {
        load.push(small, index).await;
    }
    times
}

async fn everything(load: &Load, name: &str, all: &[Pushes], calls_alone: f64, told_alone: Duration) {
    let runs: usize = all.iter().map(|pushes| pushes.commits.len()).sum();
    let busy = load.github.world().busy;
    let begun = Instant::now();
    load.push_all(all, SENDERS).await;
    let sent = begun.elapsed();
    load.equal().await;
    let (equal, busy) = (begun.elapsed(), load.github.world().busy - busy);
    let calls = load.github.take_calls("");
    let points: f64 = calls.iter().map(|call| if call.starts_with("GET") { 1.0 } else { 5.0 }).sum();
    let a_run = calls.len() as f64 / runs as f64;
    println!(
        "{name}: {runs} runs: accepted in {:.1} s, equal {:.1} s after the last push ({:.0} runs/s; a push alone is told after \
         {:.0} ms, so {:.2} of that a run)",
        sent.as_secs_f64(),
        (equal - sent).as_secs_f64(),
        runs as f64 / equal.as_secs_f64(),
        millis(told_alone),
        equal.as_secs_f64() / runs as f64 / told_alone.as_secs_f64(),
    );
    println!(
        "{name}: {a_run:.1} forge calls a run ({:.2} × the {calls_alone:.1} of a run alone); the fake GitHub worked {:.0} % of \
         the time; at GitHub's pace ({POINTS_A_MINUTE:.0} points a minute, one installation) {:.0} minutes",
        a_run / calls_alone,
        100.0 * busy.as_secs_f64() / equal.as_secs_f64(),
        points / POINTS_A_MINUTE,
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
