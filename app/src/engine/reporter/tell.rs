//! One report after the other, told to one forge about one repository.

use super::conversation;
use super::deployed;
use crate::context::Context;
use crate::forge::github::ANNOTATIONS;
use crate::forge::{CheckRun, Forge, ForgeError, RepoFacts};
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;
use crate::store::Error;
use crate::store::reports::{Report, Wanted};
use crate::store::standing::Silence;
use rand::Rng;

/// The longest time between two tries.
const LONGEST_MILLIS: i64 = 3_600_000;
/// How long one tries at all: after that the row says that it was not reported.
const GIVE_UP_MILLIS: i64 = 24 * 3_600_000;
/// How long to wait after a refusal, which a person has to mend.
const REFUSED_MILLIS: i64 = 60_000;

/// Tells the reports of one repository; answers how many were acknowledged and how many put off.
pub(super) async fn repo(
    context: &Context,
    id: RepoId,
    reports: Vec<Report>,
    now: Timestamp,
) -> Result<(usize, usize), Error> {
    let (repo, silence) = context.store.read().await?.usable_repo(&id).await?;
    if let Some(silence) = silence {
        return keep_silent(context, &reports, &silence, now).await;
    }
    let (mut told, mut failed) = (0, 0);
    let mut silent_until = None;
    for report in reports {
        // A limit holds for all that is left of the repository.
        if let Some(until) = silent_until {
            untried(context, &report, until).await?;
            failed += 1;
            continue;
        }
        let outcome = match context.forges.of(repo.forge) {
            Ok(forge) => tell(context, &forge, &repo.facts(), &report).await,
            Err(error) => Err(Trouble::Forge(error)),
        };
        match outcome {
            Ok(()) => {
                context.metrics.forge_call("ok");
                acknowledge(context, &report, now).await?;
                told += 1;
            }
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Forge(error)) => {
                if let ForgeError::RateLimited { until } = error {
                    silent_until = Some(until);
                }
                put_off(context, &report, &error, now).await?;
                failed += 1;
            }
        }
    }
    Ok((told, failed))
}

/// Nothing may be told now: the reports say why, and go on when the forge says that they may.
async fn keep_silent(
    context: &Context,
    reports: &[Report],
    silence: &Silence,
    now: Timestamp,
) -> Result<(usize, usize), Error> {
    let mut tx = context.store.begin().await?;
    for report in reports {
        let why = format!("not told: {}", silence.why);
        tx.report_failed(&report.id, &why, now.plus_millis(LONGEST_MILLIS), silence.for_good).await?;
    }
    tx.commit().await?;
    Ok((0, reports.len()))
}

pub(super) enum Trouble {
    Forge(ForgeError),
    Store(Error),
}

impl From<ForgeError> for Trouble {
    fn from(error: ForgeError) -> Self {
        Self::Forge(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

async fn tell(context: &Context, forge: &Forge, repo: &RepoFacts, report: &Report) -> Result<(), Trouble> {
    if report.told.as_ref() == Some(&report.wanted) && report.annotations_told >= wanted_notes(report) {
        return Ok(());
    }
    match &report.wanted.0 {
        Wanted::Status(status) => Ok(forge.set_status(repo, &report.sha, status).await?),
        Wanted::Check(check) => tell_check(context, forge, repo, report, check).await,
        Wanted::Comment(comment) => conversation::tell_comment(context, forge, repo, report, comment).await,
        Wanted::Receipt { comment, reaction } => conversation::tell_receipt(forge, repo, *comment, *reaction).await,
        Wanted::Deployment(wanted) => deployed::tell(context, forge, repo, report, wanted).await,
    }
}

fn wanted_notes(report: &Report) -> i64 {
    match &report.wanted.0 {
        Wanted::Check(check) => i64::try_from(check.annotations.len()).unwrap_or(i64::MAX),
        Wanted::Status(_) | Wanted::Comment(_) | Wanted::Receipt { .. } | Wanted::Deployment(_) => 0,
    }
}

async fn tell_check(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    report: &Report,
    check: &CheckRun,
) -> Result<(), Trouble> {
    let mut id = report.forge_id;
    // More than one attempt and no id: the answer to a creation may have been lost.
    if id.is_none() && report.attempts > 1 {
        id = forge.find_check(repo, check).await?;
    }
    let mut noted = usize::try_from(report.annotations_told).unwrap_or(0);
    let id = match id {
        Some(id) => {
            noted = update(context, forge, repo, report, (id, check, noted)).await?;
            id
        }
        None => {
            let id = forge.create_check(repo, check).await?;
            noted = check.annotations.len().min(ANNOTATIONS);
            remember(context, report, Some(id), noted).await?;
            id
        }
    };
    // What does not fit into one request follows in further ones, which add to it.
    while noted < check.annotations.len() {
        noted = update(context, forge, repo, report, (id, check, noted)).await?;
    }
    Ok(())
}

async fn update(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    report: &Report,
    (id, check, noted): (i64, &CheckRun, usize),
) -> Result<usize, Trouble> {
    let rest = &check.annotations[noted.min(check.annotations.len())..];
    let batch = &rest[..rest.len().min(ANNOTATIONS)];
    match forge.update_check(repo, id, check, batch).await {
        Err(error @ ForgeError::NotFound(_)) => {
            // It is gone at the forge. The next try makes it anew.
            remember(context, report, None, 0).await?;
            return Err(error.into());
        }
        other => other?,
    }
    let noted = noted + batch.len();
    if report.forge_id != Some(id) || !batch.is_empty() {
        remember(context, report, Some(id), noted).await?;
    }
    Ok(noted)
}

pub(super) async fn remember(context: &Context, report: &Report, id: Option<i64>, noted: usize) -> Result<(), Error> {
    let noted = i64::try_from(noted).unwrap_or(i64::MAX);
    let mut tx = context.store.begin().await?;
    tx.report_created(&report.id, id, noted).await?;
    tx.commit().await
}

async fn acknowledge(context: &Context, report: &Report, now: Timestamp) -> Result<(), Error> {
    if let Wanted::Deployment(wanted) = &report.wanted.0 {
        deployed::note_refusal(context, report, wanted, None).await?;
    }
    let mut tx = context.store.begin().await?;
    tx.report_told(&report.id, &report.wanted.0, now).await?;
    tx.commit().await
}

async fn untried(context: &Context, report: &Report, until: Timestamp) -> Result<(), Error> {
    let mut tx = context.store.begin().await?;
    tx.report_untried(&report.id, until).await?;
    tx.commit().await
}

async fn put_off(context: &Context, report: &Report, error: &ForgeError, now: Timestamp) -> Result<(), Error> {
    let (outcome, at) = match error {
        ForgeError::RateLimited { until } => ("rate_limited", *until),
        ForgeError::Refused(_) | ForgeError::NotFound(_) => {
            ("refused", now.plus_millis(REFUSED_MILLIS.max(backoff(report.attempts))))
        }
        ForgeError::Unavailable(_) | ForgeError::NotConfigured(_) => {
            ("unavailable", now.plus_millis(backoff(report.attempts)))
        }
    };
    context.metrics.forge_call(outcome);
    let mut give_up = now.since(report.updated_at) > GIVE_UP_MILLIS;
    if let (Wanted::Deployment(wanted), ForgeError::Refused(_)) = (&report.wanted.0, error) {
        // The permission is optional. Asking for every deployment again and again would change nothing.
        deployed::note_refusal(context, report, wanted, Some(error)).await?;
        give_up = true;
    }
    let external_id = &report.external_id;
    if give_up && now.since(report.updated_at) > GIVE_UP_MILLIS {
        tracing::error!(%external_id, %error, "{external_id} was not reported in 24 hours: {error}");
    } else {
        tracing::warn!(%external_id, %error, attempts = report.attempts, "{external_id} could not be reported: {error}");
    }
    let text = if give_up { format!("not reported: {error}") } else { error.to_string() };
    let mut tx = context.store.begin().await?;
    tx.report_failed(&report.id, &text, at, give_up).await?;
    tx.commit().await
}

/// Two seconds, then twice as long each time, at most an hour, spread by a fifth so that not all come back at once.
fn backoff(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 12)).unwrap_or(12);
    let delay = (1000_i64 << doublings).min(LONGEST_MILLIS);
    delay + rand::rng().random_range(-delay / 5..=delay / 5)
}
