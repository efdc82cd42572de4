//! What starts what: conversations with a GitHub that pushes, merges, forgets and repeats itself.

#[path = "../support/conversation.rs"]
mod conversation;
#[path = "../support/databases.rs"]
mod databases;
#[path = "../support/fake_github/mod.rs"]
mod fake_github;
mod order;
mod pulls;
mod pushes;
mod required;
mod standing;

use conversation::Rivet;

/// A file without `on`: every push and every pull request starts it.
pub const ANY: &str = r#"
return pipeline.define({
    stages = { { name = "build", script = function() process.run("make") end } },
})
"#;

/// What a runner would check out for the next job; the job goes on to its end.
pub async fn built(rivet: &Rivet) -> Vec<String> {
    let mut built = vec![];
    loop {
        rivet.settle().await;
        let Some(job) = rivet.claim(1).await.into_iter().next() else { return built };
        built.push(conversation::text(&job["checkout"]["sha"]));
        rivet.start(&job).await;
        rivet.end(&job, "succeeded", serde_json::json!({})).await;
    }
}

/// Every run's pipeline, event and commit, in the order of their texts.
pub async fn started(rivet: &Rivet) -> Vec<String> {
    let listed = rivet.api("GET", "/api/v1/runs?limit=100", None).await.1;
    let text = |run: &serde_json::Value, key: &str| conversation::text(&run[key]);
    let line = |run| format!("{} {} {}", text(run, "pipeline"), text(run, "event"), &text(run, "sha")[..8]);
    let mut lines: Vec<String> = listed["items"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}
