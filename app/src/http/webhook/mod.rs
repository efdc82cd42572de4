//! Deliveries come in here: bytes are authenticated first, then read, stored and only then answered. Nothing is done
//! about them here.

mod body;
mod inbox;
mod spool;
mod unsigned;
mod verify;

use crate::context::Context;
use crate::forge::Event;
use crate::forge::github::payload::{self, FieldProblem};
use crate::http::error::ApiError;
use crate::http::server::Peer;
use crate::model::ids::{ForgeKind, RepoId};
use crate::model::time::Timestamp;
use crate::store::deliveries::NewDelivery;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use inbox::{Inbox, Kept};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use body::{MAX_BODY_BYTES, MAX_IN_FLIGHT_BYTES};
pub use verify::sign;

/// The routes. They read their bodies themselves, so no limit of the router's applies to them.
pub fn router() -> Router<Context> {
    let receiver = Arc::new(Receiver::default());
    let of = |forge: ForgeKind| {
        let receiver = receiver.clone();
        post(move |State(context): State<Context>, request: Request| async move {
            let answer = receiver.receive(forge, &context, request).await;
            context.metrics.delivery(answer.as_ref().map_or("refused", |(outcome, _)| outcome));
            answer.map_or_else(Refusal::into_response, |(_, response)| response)
        })
    };
    Router::new().route("/webhooks/github", of(ForgeKind::Github)).route("/webhooks/local", of(ForgeKind::Local))
}

/// What all deliveries of one server share.
#[derive(Default)]
struct Receiver {
    bodies: body::Budget,
    inbox: Inbox,
    unsigned: unsigned::Unsigned,
}

/// A refusal, and whether bytes of the request may still be on their way.
struct Refusal {
    error: ApiError,
    close: bool,
}

impl Refusal {
    fn into_response(self) -> Response {
        let mut response = self.error.into_response();
        if self.close {
            response.headers_mut().insert("connection", axum::http::HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, close: false }
    }
}

fn refuse(status: StatusCode, code: &str, detail: impl Into<String>) -> ApiError {
    ApiError::new(status, code, detail)
}

impl Receiver {
    /// Authenticates, reads, stores, answers; in this order.
    async fn receive(&self, forge: ForgeKind, context: &Context, request: Request) -> Result<Answer, Refusal> {
        let secrets = secrets_of(forge, context, Timestamp::now());
        if secrets.is_empty() {
            return Err(ApiError::not_found().into());
        }
        let (parts, body) = request.into_parts();
        let read = match verify::Signature::of(&parts.headers) {
            Ok(signature) => {
                let check = signature.checked_with(&secrets);
                body::read(&self.bodies, &context.config.data_dir, &parts.headers, body, check).await
            }
            Err(error) => Err(error.into()),
        };
        let read = read.map_err(|refusal| self.counted(refusal, parts.extensions.get()))?;
        verify::is_plain_json(&parts.headers)?;
        let guid = verify::delivery_id(&parts.headers)?;
        let event = verify::event_name(&parts.headers)?;

        let (meaning, bytes) = understand(forge, event.clone(), guid.clone(), read.bytes).await?;
        let kept = self.inbox.keep(context, delivery(forge, guid.clone(), event, &parts.headers, &meaning, bytes));
        let kept = kept.await.map_err(|why| {
            tracing::error!(delivery.id = %guid, error = %why, "delivery {guid} could not be stored: {why}");
            ApiError::unavailable(30)
        })?;
        tracing::info!(delivery.id = %guid, outcome = ?kept, "received delivery {guid}");
        Ok(answer(&guid, kept))
    }

    /// A refusal for want of a right signature, or for too many of them from this address.
    fn counted(&self, refusal: Refusal, peer: Option<&Peer>) -> Refusal {
        if refusal.error.status != StatusCode::UNAUTHORIZED.as_u16() {
            return refusal;
        }
        match self.unsigned.count(peer.map(|peer| peer.0.ip()), Timestamp::now()) {
            Ok(()) => refusal,
            Err(error) => Refusal { error, close: refusal.close },
        }
    }
}

/// Every secret a delivery may be signed with now: more than one only while it is being changed. Which one is tried does
/// not depend on anything the delivery says.
fn secrets_of(forge: ForgeKind, context: &Context, now: Timestamp) -> Vec<SecretString> {
    let mut secrets = match forge {
        ForgeKind::Github => context.forges.github.secrets(now),
        ForgeKind::Local => context.config.local_webhook_secret.iter().cloned().collect(),
    };
    if let (true, ForgeKind::Github, Some(github)) = (secrets.is_empty(), forge, &context.config.github) {
        secrets.push(github.webhook_secret.clone());
    }
    // An empty key would let anybody sign.
    secrets.retain(|secret| !secret.expose_secret().is_empty());
    secrets
}

/// What the metrics call it, and the response.
type Answer = (&'static str, Response);

fn answer(guid: &str, kept: Kept) -> Answer {
    let (outcome, status, body) = match kept {
        Kept::New => ("accepted", StatusCode::ACCEPTED, json!({ "delivery": guid, "status": "accepted" })),
        Kept::Duplicate => ("duplicate", StatusCode::OK, json!({ "status": "duplicate" })),
        Kept::Ignored(reason) => ("ignored", StatusCode::OK, json!({ "status": "ignored", "reason": reason })),
    };
    (outcome, (status, Json(body)).into_response())
}

/// Bodies above this are parsed off the threads that serve requests.
const PARSE_INLINE_BYTES: usize = 512 << 10;

async fn understand(
    forge: ForgeKind,
    event: String,
    guid: String,
    bytes: Vec<u8>,
) -> Result<(Event, Vec<u8>), ApiError> {
    if bytes.len() <= PARSE_INLINE_BYTES {
        return parse(forge, &event, &guid, &bytes).map(|meaning| (meaning, bytes));
    }
    let parsed = tokio::task::spawn_blocking(move || parse(forge, &event, &guid, &bytes).map(|m| (m, bytes)));
    parsed.await.map_err(|why| ApiError::internal(&why))?
}

fn parse(forge: ForgeKind, event: &str, guid: &str, bytes: &[u8]) -> Result<Event, ApiError> {
    verify::is_sound_json(bytes)?;
    payload::event_of(forge, event, bytes, guid)
        .map_err(|problem| refuse(StatusCode::UNPROCESSABLE_ENTITY, "webhook.field", problem.to_string()))
}

fn delivery(
    forge: ForgeKind,
    guid: String,
    event: String,
    headers: &HeaderMap,
    meaning: &Event,
    payload: Vec<u8>,
) -> NewDelivery {
    let ignored = match meaning {
        Event::Ignored { reason } => Some(reason.clone()),
        _ => None,
    };
    NewDelivery {
        forge,
        guid,
        event,
        headers: kept_headers(headers),
        payload,
        repo_id: repo_of(meaning),
        installation_id: payload::installation_id(meaning),
        ignored,
        received_at: Timestamp::now(),
    }
}

/// A delivery whose payload did not come in here: it was read from the forge over a connection of ours, or made from what
/// was read there.
pub fn fetched(guid: &str, event: &str, payload: &Value, now: Timestamp) -> Result<NewDelivery, FieldProblem> {
    let bytes = payload.to_string().into_bytes();
    let meaning = payload::event_of(ForgeKind::Github, event, &bytes, guid)?;
    let kept = delivery(ForgeKind::Github, guid.to_owned(), event.to_owned(), &HeaderMap::new(), &meaning, bytes);
    Ok(NewDelivery { received_at: now, ..kept })
}

fn repo_of(meaning: &Event) -> Option<RepoId> {
    match meaning {
        Event::Trigger(trigger) => Some(trigger.repo.id()),
        Event::PullRequestClosed { repo, .. }
        | Event::Repository(repo)
        | Event::CheckAction { repo, .. }
        | Event::SuiteRerequested { repo, .. }
        | Event::RepositoryStands { repo, .. }
        | Event::RefDeleted { repo, .. }
        | Event::MergeGroupDestroyed { repo, .. } => Some(repo.id()),
        Event::Comment(comment) => Some(comment.repo.id()),
        Event::Installation(_) | Event::Ignored { .. } => None,
    }
}

/// The headers that tell something about the delivery. Signatures and credentials are never kept.
fn kept_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let wanted = |name: &str| {
        (name.starts_with("x-github-") || matches!(name, "user-agent" | "content-type")) && !name.contains("signature")
    };
    let text = |value: &axum::http::HeaderValue| payload::clean(&String::from_utf8_lossy(value.as_bytes()));
    headers.iter().filter(|(name, _)| wanted(name.as_str())).map(|(n, v)| (n.as_str().to_owned(), text(v))).collect()
}
