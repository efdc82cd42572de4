//! What the local forge's hook asks after a push: which runs it started, and how they fare. Signed like the delivery.

use super::error::ApiError;
use crate::context::Context;
use crate::forge::local::hook::{Followed, FollowedRun, signature};
use crate::model::ids::DeliveryId;
use crate::store::decisions::DecisionOutcome;
use crate::store::deliveries::DeliveryState;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

/// The routes.
pub fn router() -> Router<Context> {
    Router::new().route("/webhooks/local/follow", post(follow))
}

#[derive(Deserialize)]
struct Question {
    delivery: DeliveryId,
}

async fn follow(State(context): State<Context>, headers: HeaderMap, body: Bytes) -> Result<Json<Followed>, ApiError> {
    let secret = context.config.local_webhook_secret.as_ref().ok_or_else(ApiError::not_found)?;
    let expected = signature(secret.expose_secret().as_bytes(), &body);
    let given = headers.get("x-hub-signature-256").map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    if !bool::from(expected.as_bytes().ct_eq(given)) {
        let detail = "Signature does not match the body.";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "webhook.signature_mismatch", detail));
    }
    let question: Question = serde_json::from_slice(&body).map_err(|_| {
        ApiError::new(StatusCode::BAD_REQUEST, "webhook.json_invalid", "Body is not the question it should be.")
    })?;
    let mut tx = context.store.read().await?;
    let delivery = tx.delivery(&question.delivery).await?;
    let decisions = tx.decisions_of(&delivery.id).await?;
    let runs = tx.runs_of_delivery(&delivery.id).await?;
    let decided = delivery.state != DeliveryState::Pending;
    let mut others: Vec<(Option<String>, String)> =
        decisions.into_iter().filter(|d| d.outcome != DecisionOutcome::Run).map(|d| (d.pipeline, d.reason)).collect();
    if let (true, Some(reason)) = (decided, delivery.reason) {
        others.push((None, reason));
    }
    let runs = runs
        .into_iter()
        .map(|run| FollowedRun {
            url: context.run_url(&run.id),
            pipeline: run.pipeline,
            number: run.number,
            state: run.state,
            reason: run.reason,
            ended: run.ended,
            stages: run.stages,
        })
        .collect();
    Ok(Json(Followed { decided, others, runs }))
}
