//! The buttons of a run, as forms that need no JavaScript.

use super::page::Visitor;
use crate::actions::approve::{Decider, Decision, approve};
use crate::actions::tell_again::tell_again;
use crate::actions::{cancel, rerun, retry, rollback};
use crate::context::Context;
use crate::http::api::acts::{cancel_reason, known};
use crate::http::auth::session::{check_csrf, check_origin};
use crate::http::error::ApiError;
use crate::model::ids::RunId;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

/// What the forms of a run send.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    csrf: String,
    stage: Option<String>,
    decision: String,
    sha: Option<String>,
    comment: Option<String>,
}

enum Verb {
    Cancel,
    Retry,
    Rerun,
    Rollback,
    Decide,
    TellAgain,
}

/// `POST /runs/{id}/{verb}`, then back to the run (or the new one).
pub async fn act(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Path((id, verb)): Path<(String, String)>,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let done = perform(&visitor, &context, &headers, (&id, &verb), sent).await;
    let run = done.map_err(visitor.refuse())?;
    Ok(Redirect::to(&format!("/runs/{run}")).into_response())
}

async fn perform(
    visitor: &Visitor,
    context: &Context,
    headers: &HeaderMap,
    (id, verb): (&str, &str),
    sent: Sent,
) -> Result<RunId, ApiError> {
    let verb = match verb {
        "cancel" => Verb::Cancel,
        "retry" => Verb::Retry,
        "rerun" => Verb::Rerun,
        "rollback" => Verb::Rollback,
        "approvals" => Verb::Decide,
        "reports" => Verb::TellAgain,
        _ => return Err(ApiError::not_found()),
    };
    check_origin(context, headers)?;
    check_csrf(&visitor.caller, &sent.csrf)?;
    let caller = visitor.caller.clone().require(Role::User)?;
    let run = known(context, &caller, id).await?;
    let now = Timestamp::now();
    match verb {
        Verb::Cancel => cancel::cancel(context, &run, &cancel_reason(&caller, None), now).await?,
        Verb::Retry => retry::retry(context, &run, sent.stage.as_deref(), &caller.actor, now).await?,
        Verb::Rerun => return Ok(rerun::rerun(context, &run, &caller.actor, now).await?),
        Verb::Rollback => rollback::undo(context, &run, &caller.actor, false, now).await?,
        Verb::TellAgain => {
            tell_again(context, &run, now).await?;
        }
        Verb::Decide => {
            let decision = Decision {
                stage: sent.stage,
                // Only the word itself is a yes.
                approve: sent.decision == "approve",
                by: Decider::of(&caller),
                sha: sent.sha,
                said_at: None,
                comment: sent.comment.filter(|comment| !comment.trim().is_empty()),
                via: "page".to_owned(),
            };
            approve(context, &run, &decision, now).await?;
        }
    }
    Ok(run)
}
