//! A repository with a pull request on it, and people: Ada and Alice may write, Bob may read, Eve has a fork.

use crate::conversation::{Rivet, text};
use serde_json::Value;

const CI: &str = r#"
return pipeline.define({
    on = { pull_request = true },
    stages = {
        { name = "build", script = function() process.run("make") end },
        { name = "deploy", approval = { required = true }, script = function() process.run("make deploy") end },
    },
})
"#;

const BENCH: &str = r#"
return pipeline.define({
    on = { comment = { command = "/bench", permission = "write" } },
    inputs = { runs = { type = "number", default = 1, max = 10 }, note = { type = "string", required = false } },
    stages = { { name = "bench", script = function() process.run("make bench") end } },
})
"#;

const POLL: &str = r#"
return pipeline.define({
    on = { comment = { command = "/poll", permission = "read" } },
    stages = { { name = "poll", script = function() process.run("make poll") end } },
})
"#;

const NIGHTLY: &str = r#"
return pipeline.define({
    on = { schedule = { { cron = "0 3 * * *" } } },
    inputs = { depth = { type = "number", required = true, default = 1 }, all = { type = "bool", default = false } },
    stages = { { name = "soak", script = function() process.run("make soak") end } },
})
"#;

pub const FILES: [(&str, &str); 4] =
    [(".rivet/ci.lua", CI), (".rivet/bench.lua", BENCH), (".rivet/poll.lua", POLL), (".rivet/nightly.lua", NIGHTLY)];

/// People with their rights.
pub fn people(rivet: &Rivet) {
    rivet.github.permit(&rivet.repo, "alice", "write", 12);
    rivet.github.permit(&rivet.repo, "bob", "read", 13);
}

/// A pull request, its runs begun; answers number and head. Ada's from a branch, or Eve's from her fork.
pub async fn pull(rivet: &Rivet, fork: bool) -> (i64, String) {
    people(rivet);
    rivet.push("main", &FILES).await;
    rivet.open_pull("topic", fork, &[("src/a", "1")]).await
}

/// A pull request whose `deploy` waits for somebody.
pub async fn waiting(rivet: &Rivet) -> (i64, String) {
    let opened = pull(rivet, false).await;
    assert_eq!(rivet.work().await, ["build"]);
    opened
}

/// The conversation with what differs from run to run taken out.
pub fn talk(rivet: &Rivet, number: i64, commits: &[(&str, &str)]) -> String {
    mask(&rivet.conversation(number), commits)
}

pub fn mask(text: &str, commits: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (sha, name) in commits {
        text = text.replace(*sha, name).replace(&sha[..12], name);
    }
    let mut masked = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("issuecomment-") {
        let (before, after) = rest.split_at(at + "issuecomment-".len());
        masked.push_str(before);
        masked.push('N');
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    masked.push_str(rest);
    // Times.
    let words =
        masked.split(' ').map(|word| match word.starts_with("20") && word.contains("T") && word.contains('Z') {
            true => word.find('Z').map_or_else(|| word.to_owned(), |end| format!("TIME{}", &word[end + 1..])),
            false => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ").replace("<!-- rivet: answers to commands -->", "<!-- -->")
}

/// What was decided about the newest delivery.
pub async fn newest(rivet: &Rivet) -> String {
    let listed = rivet.api("GET", "/api/v1/deliveries?limit=1", None).await.1;
    let delivery = listed["items"][0].clone();
    let told = rivet.api("GET", &format!("/api/v1/why?delivery={}", text(&delivery["id"])), None).await.1;
    let items = told["items"].as_array().or(told["decisions"].as_array()).cloned().unwrap_or_default();
    let line = |d: &Value| format!("{}: {}", text(&d["outcome"]), text(&d["reason"]));
    match items.is_empty() {
        true => format!("{}: {}", text(&delivery["state"]), text(&delivery["reason"])),
        false => items.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

/// The newest delivery is worked on again.
pub async fn again(rivet: &Rivet) {
    let listed = rivet.api("GET", "/api/v1/deliveries?limit=1", None).await.1;
    let id = text(&listed["items"][0]["id"]);
    let (status, answer) = rivet.api("POST", &format!("/api/v1/deliveries/{id}/redeliver"), None).await;
    assert!(status < 300, "{status} {answer}");
    rivet.settle().await;
}

/// The lines of the audit log about a pull request: who, what, the command.
pub async fn audit(rivet: &Rivet, number: i64) -> String {
    let subject = format!("{}#{number}", rivet.repo.full_name());
    let lines = rivet.tx().await.audit_of(&subject).await.unwrap();
    let line = |a: &rivet::store::audit::Audit| {
        let what = a.details.0["line"].as_str().or(a.details.0["why"].as_str()).unwrap_or("-").to_owned();
        format!("{} {}: {what}", a.actor, a.action)
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
