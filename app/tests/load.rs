//! Many repositories push at once, and at the end the forge shows exactly what is stored. `benches/forge.rs` does the same
//! in large and measures it.

#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;
#[path = "support/load.rs"]
mod load;

use databases::Kind;
use load::{Load, Pushes, STAGES};
use std::future::Future;

const REPOS: usize = 10;
const PUSHES: usize = 5;
/// Four updates of each check run, the root tree, two statuses, a token for runners minted and revoked.
const CALLS_A_RUN: usize = 4 * STAGES + 3 + 2;
/// For each repository: tokens to read and to report, the folder of definitions and its file.
const CALLS_A_REPO: usize = 5;

fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Load) -> F) {
    databases::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        test(Load::start(database, folder, 2, 4).await).await;
    });
}

databases::on_both_databases!(crate::run; ten_repositories_push_five_times_and_everything_is_told);

async fn ten_repositories_push_five_times_and_everything_is_told(load: Load) {
    let all: Vec<Pushes> = (0..REPOS).map(|number| load.repo(&format!("acme/app-{number}"), PUSHES)).collect();
    load.github.take_calls("");
    load.push_all(&all, 8).await;
    load.equal().await;
    let runs = load.assert_equal(&all).await;
    assert_eq!(runs, REPOS * PUSHES);
    let calls = load.github.take_calls("");
    println!("{:.1} calls a run", calls.len() as f64 / runs as f64);
    assert!(calls.len() <= runs * CALLS_A_RUN + REPOS * CALLS_A_REPO, "{} calls of {runs} runs", calls.len());
    load.stop().await;
}
