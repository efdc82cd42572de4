//! The page of a gate: everything somebody should see before they agree, and the two buttons.

use super::page::{Frame, Visitor, render};
use super::text::clean;
use crate::actions::review::{Review, Since, review};
use crate::context::Context;
use crate::http::api::acts::known;
use crate::http::error::ApiError;
use crate::model::time::Timestamp;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "gate.html")]
struct GatePage<'a> {
    frame: &'a Frame,
    title: String,
    review: Review,
    who: String,
    waits: bool,
    short: String,
    short_plan: String,
    inputs: Vec<(String, String)>,
    images: String,
    decisions: Vec<Row>,
    since: Option<Commits>,
}

/// One decision as a row.
struct Row {
    actor: String,
    word: &'static str,
    at: String,
    head: String,
    via: String,
    note: String,
}

/// What leads here.
struct Commits {
    what: String,
    total: i64,
    list: Vec<(String, String)>,
    files: Vec<String>,
    all_files: bool,
}

/// `/runs/{id}/gates/{stage}`.
pub async fn gate(
    visitor: Visitor,
    State(context): State<Context>,
    Path((id, stage)): Path<(String, String)>,
) -> Result<Response, Response> {
    let page = read(&visitor, &context, &id, &stage).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read<'a>(visitor: &'a Visitor, context: &Context, id: &str, stage: &str) -> Result<GatePage<'a>, ApiError> {
    let run = known(context, &visitor.caller, id).await?;
    let found = review(context, &run, stage, Timestamp::now()).await?;
    let review = cleaned(found);
    let short = |text: &str| text.get(..12).unwrap_or(text).to_owned();
    let decided = |d: &crate::actions::review::Decided| Row {
        actor: clean(&d.actor),
        word: if d.decision == "approve" { "approved" } else { "rejected" },
        at: d.at.rfc3339(),
        head: short(&clean(&d.head)),
        via: clean(&d.via),
        note: [&d.comment, &d.void_reason]
            .into_iter()
            .flatten()
            .map(|text| clean(text))
            .collect::<Vec<_>>()
            .join(" · "),
    };
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(GatePage {
        frame: &visitor.frame,
        title: format!("Gate {} · {} #{} · {}", review.stage, review.pipeline, review.number, review.repo),
        who: who(&review),
        waits: review.state == "awaiting_approval",
        short: short(&review.head),
        short_plan: short(&review.plan_digest),
        inputs: review.inputs.iter().map(|(name, value)| (clean(name), clean(&shown(value)))).collect(),
        images: images(&review),
        decisions: review.decisions.iter().map(decided).collect(),
        since: review.since.as_ref().map(commits),
        review,
    })
}

/// The same with every text from outside cleaned of what deceives readers.
fn cleaned(mut review: Review) -> Review {
    for text in [
        &mut review.pipeline,
        &mut review.stage,
        &mut review.reason,
        &mut review.repo,
        &mut review.head,
        &mut review.sha,
        &mut review.plan_digest,
        &mut review.rollback,
        &mut review.command,
    ] {
        *text = clean(text);
    }
    for text in [&mut review.environment, &mut review.image, &mut review.image_before].into_iter().flatten() {
        *text = clean(text);
    }
    for list in [&mut review.secrets, &mut review.changes, &mut review.unknown] {
        list.iter_mut().for_each(|text| *text = clean(text));
    }
    for file in &mut review.definitions {
        file.path = clean(&file.path);
        file.diff = file.diff.lines().map(clean).collect::<Vec<_>>().join("\n");
    }
    review
}

fn who(review: &Review) -> String {
    let who = &review.who;
    let names = |list: &[String]| clean(&list.join(", "));
    let mut text = match who.reviewers.is_empty() {
        true => "anyone who may write".to_owned(),
        false => names(&who.reviewers),
    };
    if !who.policy_reviewers.is_empty() {
        text.push_str(&format!("; by the policy one of {}", names(&who.policy_reviewers)));
    }
    if who.prevent_self {
        text.push_str("; not who caused the run");
    }
    format!("{text} ({} of {} so far)", who.given, who.count)
}

fn images(review: &Review) -> String {
    match (&review.image_before, &review.image) {
        (Some(before), Some(now)) if before != now => format!("{now}, before: {before}"),
        (_, Some(now)) => now.clone(),
        (Some(before), None) => format!("none, before: {before}"),
        (None, None) => String::new(),
    }
}

fn commits(since: &Since) -> Commits {
    Commits {
        what: clean(&since.what),
        total: since.total,
        list: since.commits.iter().map(|(sha, title)| (clean(sha.get(..12).unwrap_or(sha)), clean(title))).collect(),
        files: since.files.iter().flatten().map(|file| clean(file)).collect(),
        all_files: since.files.is_some(),
    }
}
