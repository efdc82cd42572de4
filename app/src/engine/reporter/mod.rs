//! Tells the forges what they should show, by comparison: first what is wanted is computed from runs and stages, then each
//! forge is told until it has acknowledged exactly that. Killed anywhere, the next pass goes on; nothing is told twice
//! that was acknowledged, and a check run whose creation was not is looked for before it is created again.

mod conversation;
mod deployed;
mod shown;
mod tell;

use crate::context::Context;
use crate::engine::Progress;
use crate::forge::CheckRun;
use crate::model::ids::RunId;
use crate::model::stage::Stage;
use crate::model::state::{RunState, StageState};
use crate::model::time::Timestamp;
use crate::store::reports::{Report, ReportKey, StageTry, Wanted};
use crate::store::{Error, Tx};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt};
use shown::RunFacts;
use std::collections::BTreeMap;
use std::time::Duration;
use tell::{Clock, Telling};

/// Runs whose reports are computed in one transaction.
const RUNS: i64 = 50;
/// Such transactions before something is told again.
const BATCHES: usize = 40;
/// Reports of one installation that are told in one pass.
const REPORTS: i64 = 16;
/// Installations that are told at once. Of one installation one report is told after the other, by one instance.
const AT_ONCE: i64 = 8;

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// Runs whose reports were computed anew.
    pub computed: usize,
    /// Reports the forge acknowledged.
    pub told: usize,
    /// Reports that were put off.
    pub failed: usize,
}

impl Reported {
    /// Whether it did something.
    pub fn is_busy(self) -> bool {
        self.computed + self.told > 0
    }

    /// Whether there may be more to do at once: it stopped at a bound. What becomes due while it is at work is hinted at.
    fn has_more(self) -> bool {
        let bound = AT_ONCE.min(REPORTS).unsigned_abs() as usize;
        self.told >= bound || self.computed >= BATCHES * RUNS.unsigned_abs() as usize
    }
}

/// Computes what is due, then tells what is open. It looks before it writes, because most wake-ups find updates that are
/// still being collected: those are waited for, which takes less than half a second.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let Some(at) = next_pass(context).await? else { return Ok(Progress::Idle) };
    let millis = at.since(now);
    if millis > context.config.timers.report_coalesce {
        return Ok(Progress::Idle);
    }
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis.unsigned_abs())).await;
    }
    // Nothing done though something was due: another instance is at it, or the forge refuses.
    let reported = pass_at(context, now.max(at)).await?;
    Ok(if reported.has_more() { Progress::Worked } else { Progress::Idle })
}

/// [`pass`] without waiting.
pub async fn pass_at(context: &Context, now: Timestamp) -> Result<Reported, Error> {
    let computed = compute(context, now).await?;
    let (told, failed) = tell_open(context, now).await?;
    Ok(Reported { computed, told, failed })
}

/// When a pass should look again if nothing wakes it: for timers, so that collecting updates costs no polling.
pub async fn next_pass(context: &Context) -> Result<Option<Timestamp>, Error> {
    let (due, open) = context.store.read().await?.next_report_times().await?;
    let due = due.map(|since| since.plus_millis(context.config.timers.report_coalesce));
    Ok(due.into_iter().chain(open).min())
}

/// Everything that is due is computed before anything is told: it takes little, and what a flood of one repository is
/// waiting for must not stand before another one's turn.
async fn compute(context: &Context, now: Timestamp) -> Result<usize, Error> {
    let mut computed = 0;
    for _ in 0..BATCHES {
        let some = compute_some(context, now).await?;
        computed += some;
        if some < RUNS.unsigned_abs() as usize {
            break;
        }
    }
    Ok(computed)
}

async fn compute_some(context: &Context, now: Timestamp) -> Result<usize, Error> {
    let before = now.plus_millis(-context.config.timers.report_coalesce);
    let mut tx = context.store.begin().await?;
    let due = tx.take_due_reports(before, RUNS).await?;
    for run in &due {
        want_run(context, &mut tx, run, now).await?;
    }
    tx.commit().await?;
    Ok(due.len())
}

async fn want_run(context: &Context, tx: &mut Tx, id: &RunId, now: Timestamp) -> Result<(), Error> {
    let Some((run, stages)) = tx.run_to_report(id).await? else { return Ok(()) };
    // A child run is part of the stage that started it.
    if run.is_child {
        return Ok(());
    }
    let for_pull = run.for_pull;
    let facts = RunFacts {
        id: id.clone(),
        number: run.number,
        url: context.run_url(id),
        state: run.state,
        pipeline: run.pipeline,
        sha: run.sha,
        reason: run.reason,
        rollback: run.rollback,
    };
    let key = ReportKey { repo_id: run.repo_id, sha: facts.sha.clone(), run_id: Some(id.clone()), stage_id: None };
    // Tries before the current one exist only where there is a second one.
    let tries = match stages.iter().any(|stage| stage.attempt > 1) {
        true => tx.tries_to_report(id).await?,
        false => vec![],
    };
    let skipped = facts.state == RunState::Completed && stages.iter().all(|s| s.state == StageState::Skipped);
    let unproven = skipped && tx.is_unproven(id).await?;
    let earlier: BTreeMap<String, Report> =
        tx.reports_of(id).await?.into_iter().map(|report| (report.external_id.clone(), report)).collect();
    let changed = lock_changes(tx, &key, &stages).await?;
    let mut wanted = vec![];
    for stage in stages.iter().filter(|stage| !stage.set_aside) {
        let since = stage.environment_key().and_then(|name| changed.get(&name).copied());
        let key = ReportKey { stage_id: Some(stage.id.clone()), ..key.clone() };
        for check in stage_checks(&facts, stage, &tries, &earlier) {
            let known = earlier.get(&check.external_id);
            if known.is_none_or(|known| is_worth_a_call(stage, known, &check, since)) {
                wanted.push((key.clone(), Wanted::Check(check), known));
            }
        }
    }
    tx.want_all_after(&wanted, now).await?;
    deployed::want(tx, &key, &facts, &stages, &earlier, now).await?;
    // A rollback runs a part of the plan only: it says nothing about the commit as a whole.
    if facts.rollback {
        return Ok(());
    }
    let status = Wanted::Status(match unproven {
        true => shown::unproven_status(&facts),
        false => shown::run_status(&facts, &stages),
    });
    match earlier.get(&status.external_id()) {
        Some(known) => tx.want_as_after(&key, &status, for_pull, Some(known), now).await,
        // Another run may speak for the context.
        None => tx.want_as(&key, &status, for_pull, now).await,
    }
}

/// When the environments that stages of a run deploy to were last locked or unlocked: people are told of it.
async fn lock_changes(tx: &mut Tx, key: &ReportKey, stages: &[Stage]) -> Result<BTreeMap<String, Timestamp>, Error> {
    if stages.iter().all(|stage| stage.environment_key().is_none()) {
        return Ok(BTreeMap::new());
    }
    let all = tx.environments(&key.repo_id).await?;
    Ok(all.into_iter().filter_map(|environment| Some((environment.name_key, environment.lock_changed_at?))).collect())
}

/// Whether a change is worth a call. What a stage waits for changes often and matters little until people are asked: a
/// check run is told that it is pending, that it is queued, that it runs and how it ended, and no more.
fn is_worth_a_call(stage: &Stage, known: &Report, check: &CheckRun, lock_changed: Option<Timestamp>) -> bool {
    let Wanted::Check(before) = &known.wanted.0 else { return true };
    let still_waits = before.status == "queued" && check.status == "queued" && before.actions == check.actions;
    let told_since = |time: Option<Timestamp>| time.is_some_and(|time| known.updated_at >= time);
    match stage.state {
        StageState::Pending if still_waits => false,
        StageState::Queued if still_waits => before != check && !told_since(stage.queued_at.max(lock_changed)),
        _ => before != check,
    }
}

/// The check runs of a stage: its attempt, and earlier ones that were shown and have not been concluded.
fn stage_checks(
    run: &RunFacts,
    stage: &Stage,
    tries: &[StageTry],
    earlier: &BTreeMap<String, Report>,
) -> Vec<CheckRun> {
    let shown = |attempt: i64| earlier.get(&shown::external_id(&run.id, stage, attempt));
    let concluded = |report: &Report| matches!(&report.wanted.0, Wanted::Check(check) if check.conclusion.is_some());
    let mut checks: Vec<_> = tries
        .iter()
        .filter(|past| past.stage_id == stage.id && past.attempt < stage.attempt)
        .filter(|past| shown(past.attempt).is_some_and(|report| !concluded(report)))
        .map(|past| shown::past_check(run, stage, past))
        .collect();
    let mut attempt = stage.attempt.max(1);
    // A stage somebody asked to try again has its old number until it is queued.
    if !stage.state.is_over() && shown(attempt).is_some_and(concluded) {
        attempt += 1;
    }
    checks.push(shown::stage_check(run, stage, attempt));
    checks
}

async fn tell_open(context: &Context, now: Timestamp) -> Result<(usize, usize), Error> {
    let clock = Clock::started(now);
    let waiting = context.store.read().await?.waiting_writers(now, AT_ONCE).await?;
    let mut writers: FuturesUnordered<_> =
        waiting.iter().map(|writer| tell_writer(context, writer, now, clock).boxed()).collect();
    let (mut told, mut failed) = (0, 0);
    while let Some(outcome) = writers.next().await {
        let (acknowledged, put_off) = outcome?;
        told += acknowledged;
        failed += put_off;
    }
    Ok((told, failed))
}

/// Takes one writer, if nobody else has it, and tells what of its reports may be told now.
async fn tell_writer(context: &Context, writer: &str, now: Timestamp, clock: Clock) -> Result<(usize, usize), Error> {
    let mut tx = context.store.begin().await?;
    let Some((held, left)) = tx.take_writer(writer, context.config.rates, now).await? else { return Ok((0, 0)) };
    let reports = tx.claim_reports(&held, left, REPORTS, now).await?;
    let creations = reports.iter().filter(|report| report.creates()).count();
    tx.spend(writer, i64::try_from(creations).unwrap_or(i64::MAX), now).await?;
    tx.commit().await?;
    Telling::new(context, held, clock).all(reports).await
}
