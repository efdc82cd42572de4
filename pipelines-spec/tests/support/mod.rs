//! How the tests ask the evaluator.
#![allow(dead_code, reason = "each test uses its share")]

use pipelines_spec::evaluate::{Answer, Context, Question, Request, Response, evaluate};
use pipelines_spec::plan::Pipeline;
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::EventFacts;

/// A push to `main`.
pub fn push() -> EventFacts {
    serde_json::from_value(serde_json::json!({
        "name": "push", "repo": "acme/app", "default_branch": "main", "ref": "refs/heads/main", "branch": "main",
        "sha": "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d", "actor": "alice",
    }))
    .unwrap()
}

/// What does `file` define, whose text may be followed by further files after lines `---- PATH`?
pub fn request(file: &str, text: &str) -> Request {
    let mut sources = Sources::new();
    let mut parts = text.split("---- .rivet/");
    sources.insert(file.to_owned(), parts.next().unwrap().to_owned());
    for part in parts {
        let (path, source) = part.split_once('\n').unwrap();
        sources.insert(format!(".rivet/{}", path.trim()), source.to_owned());
    }
    Request { sources, file: file.to_owned(), event: push(), question: Question::Pipeline }
}

/// Asks, the way the evaluator's process is asked: through JSON.
pub fn ask(request: &Request) -> Response {
    let request: Request = serde_json::from_str(&serde_json::to_string(request).unwrap()).unwrap();
    let response = evaluate(&request);
    serde_json::from_str(&serde_json::to_string(&response).unwrap()).unwrap()
}

/// The problems of a Lua definition, a line each.
pub fn problems(text: &str) -> String {
    let response = ask(&request(".rivet/ci.lua", text));
    response.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The pipeline of a definition without problems.
pub fn pipeline(file: &str, text: &str) -> Pipeline {
    let response = ask(&request(file, text));
    match response.answer {
        Some(Answer::Pipeline { pipeline }) if response.problems.is_empty() => *pipeline,
        other => panic!("{file}: {other:?} {:?}", response.problems),
    }
}

/// The pipeline as JSON without the places of its stages.
pub fn placeless(mut pipeline: Pipeline) -> String {
    for stage in &mut pipeline.stages {
        stage.at = None;
    }
    serde_json::to_string_pretty(&pipeline).unwrap()
}

/// A context from JSON.
pub fn context(value: serde_json::Value) -> Context {
    serde_json::from_value(value).unwrap()
}
