//! Loops the passes: woken by hints, looking by itself where a hint was lost, going on after errors, stopping in order.

use super::{
    Progress, app, cron, intake, quota, reaper, recheck, reconcile, reporter, repositories, retention, revoker,
    scheduler, sweep,
};
use crate::context::Context;
use crate::model::time::Timestamp;
use crate::store::wake::Topic;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// The longest wait between tries of a pass that fails.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

type Outcome = anyhow::Result<Progress>;

/// One pass: what wakes it, and how often it looks by itself (in polls). The supervisor is where the clock is read: a pass
/// is told the time at which it begins.
struct Pass {
    name: &'static str,
    topics: &'static [Topic],
    polls: u32,
    run: fn(&Context, Timestamp) -> BoxFuture<'_, Outcome>,
}

/// Every pass of a control plane.
const PASSES: &[Pass] = &[
    Pass { name: "app", topics: &[Topic::Settings], polls: 1, run: |c, now| Box::pin(app::pass(c, now)) },
    Pass { name: "intake", topics: &[Topic::Intake], polls: 1, run: |c, now| Box::pin(intake::pass(c, now)) },
    Pass { name: "scheduler", topics: &[Topic::Schedule], polls: 1, run: |c, now| Box::pin(scheduler::pass(c, now)) },
    Pass { name: "cron", topics: &[], polls: 1, run: |c, now| Box::pin(cron::pass(c, now)) },
    Pass { name: "reaper", topics: &[], polls: 1, run: |c, now| Box::pin(reaper::pass(c, now)) },
    Pass { name: "recheck", topics: &[], polls: 1, run: |c, now| Box::pin(recheck::pass(c, now)) },
    Pass { name: "reporter", topics: &[Topic::Report], polls: 1, run: |c, now| Box::pin(reporter::pass(c, now)) },
    Pass { name: "revoker", topics: &[], polls: 1, run: |c, now| Box::pin(revoker::pass(c, now)) },
    Pass { name: "repositories", topics: &[], polls: 2, run: |c, now| Box::pin(repositories::pass(c, now)) },
    Pass { name: "reconcile", topics: &[], polls: 5, run: |c, now| Box::pin(reconcile::pass(c, now)) },
    Pass { name: "sweep", topics: &[], polls: 5, run: |c, now| Box::pin(sweep::pass(c, now)) },
    Pass { name: "quota", topics: &[], polls: 5, run: |c, now| Box::pin(quota::pass(c, now)) },
    Pass { name: "retention", topics: &[], polls: 60, run: |c, now| Box::pin(retention::pass(c, now)) },
];

/// Runs every pass until the context's shutdown, then lets the ones under way end.
pub async fn run(context: Context) {
    if let Err(error) = cron::at_start(&context, Timestamp::now()).await {
        tracing::error!(%error, "the schedules are not read again now, only when their files change: {error}");
    }
    let mut passes = JoinSet::new();
    for pass in PASSES {
        passes.spawn(looped(pass, context.clone()));
    }
    while let Some(ended) = passes.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a pass ended by a panic that was not caught");
        }
    }
}

async fn looped(pass: &'static Pass, context: Context) {
    let mut failures = 0_u32;
    // Hints are collected from before the first look on, so that none falls between a look and the wait after it.
    let mut hints = context.store.wake.subscribe();
    while !context.shutdown.is_cancelled() {
        let wait = match once(pass, &context).await {
            Ok(Progress::Worked) => {
                failures = 0;
                continue;
            }
            Ok(Progress::Idle) => {
                failures = 0;
                poll(pass, &context)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let wait = backoff(failures);
                tracing::error!(
                    pass = pass.name,
                    failures,
                    "{} failed, again in {} s: {error:#}",
                    pass.name,
                    wait.as_secs()
                );
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = hinted(&mut hints, pass.topics), if failures == 0 => {}
            () = context.shutdown.cancelled() => {}
        }
    }
}

/// One pass in a task of its own, so that a panic in it is an error of it and of nothing else.
async fn once(pass: &'static Pass, context: &Context) -> Outcome {
    let of_task = context.clone();
    let outcome = match tokio::spawn(async move { (pass.run)(&of_task, Timestamp::now()).await }).await {
        Ok(outcome) => outcome,
        Err(error) => Err(anyhow::anyhow!("it panicked: {error}")),
    };
    context.metrics.pass(pass.name, if outcome.is_ok() { "ok" } else { "error" });
    outcome
}

fn poll(pass: &Pass, context: &Context) -> Duration {
    let millis = u64::try_from(context.config.timers.poll).unwrap_or(1000);
    Duration::from_millis(millis) * pass.polls
}

fn backoff(failures: u32) -> Duration {
    Duration::from_millis(500 << failures.min(7)).min(LONGEST_BACKOFF)
}

/// Waits for a hint at one of `topics`; a receiver that lags has missed some, which is a hint at everything.
async fn hinted(hints: &mut Receiver<Topic>, topics: &[Topic]) {
    loop {
        match hints.recv().await {
            Ok(topic) if topics.contains(&topic) => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    // A burst of hints is one reason to look.
    while hints.try_recv().is_ok() {}
}
