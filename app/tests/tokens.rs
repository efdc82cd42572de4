//! What runners fetch with lives as long as its run has jobs under way, and a few seconds more.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use conversation::{Rivet, conversations};
use rivet::engine::revoker;
use rivet::model::time::Timestamp;
use serde_json::{Value, json};
use std::cell::Cell;

conversations!(
    a_token_serves_its_runs_jobs_and_ends_seconds_after_the_last,
    a_token_that_cannot_be_revoked_now_is_revoked_later,
);

const CHAIN: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "build", script = function() end },
        { name = "lint", depends_on = {}, script = function() end },
        { name = "test", depends_on = { "build", "lint" }, script = function() end },
    },
})
"#;

/// The revoker's clock, which is its own: jobs made at a time ahead could not be claimed yet.
struct Clock(Cell<Timestamp>);

impl Clock {
    fn new() -> Self {
        Self(Cell::new(Timestamp::now()))
    }

    /// Revokes as the supervisor would for so many seconds.
    async fn seconds(&self, rivet: &Rivet, seconds: u64) {
        self.0.set(self.0.get().max(Timestamp::now()));
        for _ in 0..seconds {
            self.0.set(self.0.get().plus_seconds(1));
            revoker::pass(&rivet.context, self.0.get()).await.unwrap();
        }
    }
}

fn token(job: &Value) -> String {
    job["checkout"]["token"].as_str().expect("a token").to_owned()
}

async fn is_valid(rivet: &Rivet, token: &str) -> bool {
    rivet.github.world().tokens.contains_key(token)
}

async fn a_token_serves_its_runs_jobs_and_ends_seconds_after_the_last(rivet: Rivet) {
    let clock = Clock::new();
    rivet.push("main", &[Rivet::pipeline(CHAIN)]).await;
    let first = rivet.claim(2).await;
    assert_eq!(token(&first[0]), token(&first[1]), "one for the run's jobs");
    for job in &first {
        rivet.start(job).await;
    }
    rivet.end(&first[0], "succeeded", json!({})).await;
    clock.seconds(&rivet, 20).await;
    assert!(is_valid(&rivet, &token(&first[1])).await, "a job of the run still runs");

    rivet.end(&first[1], "succeeded", json!({})).await;
    clock.seconds(&rivet, 1).await;
    let last = rivet.claim(1).await.remove(0);
    assert_eq!(token(&last), token(&first[0]), "the next stage came at once");
    rivet.start(&last).await;
    clock.seconds(&rivet, 20).await;
    assert!(is_valid(&rivet, &token(&last)).await);
    rivet.end(&last, "succeeded", json!({})).await;
    clock.seconds(&rivet, 5).await;
    assert!(!is_valid(&rivet, &token(&last)).await, "five seconds after the run's last job");

    // The next run has another one, and does not end it for others.
    rivet.push("main", &[Rivet::pipeline(CHAIN), ("again", "1")]).await;
    let next = rivet.claim(1).await.remove(0);
    assert_ne!(token(&next), token(&last));
    assert!(is_valid(&rivet, &token(&next)).await);
    rivet.start(&next).await;
    rivet.end(&next, "succeeded", json!({})).await;
    rivet.work().await;
    clock.seconds(&rivet, 5).await;
    assert!(!is_valid(&rivet, &token(&next)).await);
    rivet.finish().await;
}

async fn a_token_that_cannot_be_revoked_now_is_revoked_later(rivet: Rivet) {
    let clock = Clock::new();
    rivet.push("main", &[Rivet::pipeline(CHAIN)]).await;
    let jobs = rivet.claim(1).await;
    rivet.start(&jobs[0]).await;
    rivet.end(&jobs[0], "failed", json!({})).await;
    rivet.work().await;
    rivet.github.world().faults.down = true;
    clock.seconds(&rivet, 5).await;
    assert!(is_valid(&rivet, &token(&jobs[0])).await, "nobody could be told");
    rivet.github.world().faults.down = false;
    clock.seconds(&rivet, 60).await;
    assert!(!is_valid(&rivet, &token(&jobs[0])).await);
    let told = rivet.github.take_calls("DELETE /installation/token").len();
    assert!((2..10).contains(&told), "tried again, not all the time: {told}");
    rivet.finish().await;
}
