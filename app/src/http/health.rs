//! For those who watch over a server: is it alive, may it be sent work, and how much is there.

use super::error::ApiError;
use crate::context::Context;
use crate::model::time::Timestamp;
use crate::store::stats::Stats;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt::Write as _;
use std::time::Duration;

/// A database that does not answer within this time is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// The routes.
pub fn router() -> Router<Context> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// The process answers; it says nothing of the database, whose loss a restart would not mend.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The database answers. (Its migrations were applied before the port was opened.)
async fn readyz(State(context): State<Context>) -> Result<&'static str, ApiError> {
    if context.shutdown.is_cancelled() {
        return Err(ApiError::unavailable(30));
    }
    let reached = async { context.store.read().await?.ping().await };
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(Ok(())) => Ok("ready\n"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the database does not answer");
            Err(ApiError::unavailable(5))
        }
        Err(_) => Err(ApiError::unavailable(5)),
    }
}

async fn metrics(State(context): State<Context>) -> Result<Response, ApiError> {
    let stats = match tokio::time::timeout(PATIENCE, async { context.store.read().await?.stats().await }).await {
        Ok(Ok(stats)) => Some(stats),
        // What the process counted itself is worth having just when the database is away.
        Ok(Err(_)) | Err(_) => None,
    };
    let mut text = context.metrics.encode().map_err(|e| ApiError::internal(&e))?;
    let rest = text.strip_suffix("# EOF\n").map(str::len);
    text.truncate(rest.unwrap_or(text.len()));
    write_stats(&mut text, stats.as_ref(), Timestamp::now()).map_err(|e| ApiError::internal(&e))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn write_stats(text: &mut String, stats: Option<&Stats>, now: Timestamp) -> std::fmt::Result {
    let gauge =
        |text: &mut String, name: &str, help: &str| writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
    gauge(text, "rivet_database_up", "Whether the database answered")?;
    writeln!(text, "rivet_database_up {}", u8::from(stats.is_some()))?;
    if let Some(stats) = stats {
        gauge(text, "rivet_runs", "Open runs by state")?;
        for (state, count) in &stats.open_runs {
            writeln!(text, "rivet_runs{{state=\"{state}\"}} {count}")?;
        }
        gauge(text, "rivet_jobs", "Open jobs by state")?;
        for (state, count) in &stats.open_jobs {
            writeln!(text, "rivet_jobs{{state=\"{state}\"}} {count}")?;
        }
        gauge(text, "rivet_queue_age_seconds", "How long the longest waiting job has been waiting")?;
        let age = stats.oldest_queued.map_or(0, |t| now.since(t).max(0));
        writeln!(text, "rivet_queue_age_seconds {:.3}", age as f64 / 1000.0)?;
        gauge(text, "rivet_deliveries_open", "Deliveries by state, of those that are not decided about")?;
        for (state, count) in &stats.open_deliveries {
            writeln!(text, "rivet_deliveries_open{{state=\"{state}\"}} {count}")?;
        }
        gauge(text, "rivet_reports_open", "Checks and statuses the forge was not told of yet")?;
        writeln!(text, "rivet_reports_open {}", stats.open_reports)?;
        gauge(text, "rivet_runners", "Runners by state")?;
        for (state, count) in &stats.runners {
            writeln!(text, "rivet_runners{{state=\"{state}\"}} {count}")?;
        }
    }
    text.push_str("# EOF\n");
    Ok(())
}
