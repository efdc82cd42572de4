//! A runner asks for work. It waits until there is some that it may have, and gets everything a job needs.

mod payload;

use self::payload::Claimed;
use crate::context::Context;
use crate::model::ids::RunnerId;
use crate::model::job::satisfies;
use crate::model::runner::{Runner, RunnerState};
use crate::model::time::Timestamp;
use crate::store;
use crate::store::jobs::{Queue, Wanted};
use crate::store::wake::Topic;
use pipelines_spec::plan::Label;
use pipelines_spec::protocol::{ClaimRequest, ClaimResponse, ExecutorKind, RunnerCommand};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// Jobs one claim may ask for.
const MOST_SLOTS: u32 = 64;
/// Seconds one claim may wait.
const LONGEST_WAIT: u64 = 25;

/// Why a claim was refused.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A label was not granted when the runner registered.
    #[error("label '{0}' is not granted to this runner.")]
    Label(Label),
    /// The runner was removed meanwhile.
    #[error("the runner was removed")]
    Removed,
    /// The database failed.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for ClaimError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// What a look at the queue found.
enum Look {
    /// Jobs that are the runner's now.
    Jobs(Vec<Claimed>),
    /// Nothing, and what the runner should do instead of asking again.
    Obey(RunnerCommand),
    /// Nothing now; look again then at the latest.
    Nothing(Option<Timestamp>),
}

/// Gives the runner jobs, as soon as there are some that it may have.
pub async fn claim(context: &Context, runner: &Runner, request: &ClaimRequest) -> Result<ClaimResponse, ClaimError> {
    if let Some(label) = runner.not_granted(&request.labels) {
        return Err(ClaimError::Label(label.clone()));
    }
    let end = Instant::now() + Duration::from_secs(request.wait_seconds.min(LONGEST_WAIT));
    // Registered before the first look: a job that is queued after it wakes this claim.
    let mut hints = context.store.wake.subscribe();
    let mut seen = false;
    loop {
        let now = Timestamp::now();
        let again = match look(context, &runner.id, request, !seen, now).await? {
            Look::Jobs(jobs) => {
                let jobs = payload::payloads(context, &runner.id, jobs, now).await?;
                if !jobs.is_empty() {
                    return Ok(ClaimResponse { jobs, command: RunnerCommand::None });
                }
                None
            }
            Look::Obey(command) => return Ok(ClaimResponse { jobs: vec![], command }),
            Look::Nothing(next) => next,
        };
        seen = true;
        let pause = again.map_or(i64::MAX, |next| next.since(now).max(1)).min(context.config.timers.poll);
        let pause = Instant::now() + Duration::from_millis(u64::try_from(pause).unwrap_or(1));
        if Instant::now() >= end || !wait(context, &mut hints, pause.min(end)).await {
            return Ok(ClaimResponse { jobs: vec![], command: RunnerCommand::None });
        }
    }
}

/// Waits for a hint at jobs, at most until `end`; `false` when the server stops.
async fn wait(context: &Context, hints: &mut broadcast::Receiver<Topic>, end: Instant) -> bool {
    let hinted = async {
        loop {
            match hints.recv().await {
                Ok(Topic::Jobs) | Err(RecvError::Lagged(_)) => return,
                Ok(Topic::Intake | Topic::Schedule | Topic::Report | Topic::Live | Topic::Settings) => {}
                // The store is gone; the poll ends this claim.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = context.shutdown.cancelled() => false,
        () = hinted => true,
        () = tokio::time::sleep_until(end) => true,
    }
}

/// Looks once. Writes only where there is something to write: many runners look whenever a job is queued.
async fn look(
    context: &Context,
    runner: &RunnerId,
    request: &ClaimRequest,
    first: bool,
    now: Timestamp,
) -> Result<Look, ClaimError> {
    // The first look also answers a claim that is repeated, and says that the runner is there.
    if !first {
        let Queue { label_sets, next } = context.store.read().await?.queue(now).await?;
        if !label_sets.iter().any(|set| satisfies(set, &request.labels)) {
            return Ok(Look::Nothing(next));
        }
    }
    let mut tx = context.store.begin().await?;
    let state = match tx.see_runner(runner, now).await {
        Ok(runner) => runner.state,
        Err(store::Error::NotFound) => return Err(ClaimError::Removed),
        Err(error) => return Err(error.into()),
    };
    let mut jobs = tx.jobs_of_claim(runner, &request.claim_id).await?;
    if jobs.is_empty() && state != RunnerState::Active {
        tx.commit().await?;
        return Ok(Look::Obey(state.command()));
    }
    let mut next = None;
    if jobs.is_empty() {
        let queue = tx.queue(now).await?;
        next = queue.next;
        let sets: Vec<String> = queue.label_sets.into_iter().filter(|set| satisfies(set, &request.labels)).collect();
        if !sets.is_empty() && request.slots > 0 {
            jobs = tx.claim_jobs(&wanted(context, runner, request, &sets, now), now).await?;
        }
    }
    let claimed = payload::load(&mut tx, jobs).await?;
    tx.commit().await?;
    Ok(if claimed.is_empty() { Look::Nothing(next) } else { Look::Jobs(claimed) })
}

fn wanted<'a>(
    context: &Context,
    runner: &'a RunnerId,
    request: &'a ClaimRequest,
    label_sets: &'a [String],
    now: Timestamp,
) -> Wanted<'a> {
    let offers = |kind| request.executors.contains(&kind);
    Wanted {
        runner,
        claim_id: &request.claim_id,
        label_sets,
        host: offers(ExecutorKind::Host),
        isolating: offers(ExecutorKind::Podman) || offers(ExecutorKind::Kubernetes),
        limit: i64::from(request.slots.min(MOST_SLOTS)),
        lease_until: now.plus_millis(context.config.timers.lease),
    }
}
