//! What one installation's forge is to be told, one report after the other, by whoever holds its writer.

use super::conversation;
use super::deployed;
use crate::context::Context;
use crate::forge::github::ANNOTATIONS;
use crate::forge::{CheckRun, Forge, ForgeError, RepoFacts};
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;
use crate::store::Error;
use crate::store::reports::{Report, Wanted};
use crate::store::repos::Repo;
use crate::store::standing::Silence;
use crate::store::writers::Held;
use rand::Rng;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long one report may take, all its calls together: less than a writer is held without a sign of life.
const PATIENCE: Duration = Duration::from_secs(45);
/// A writer that showed a sign of life so lately is still held when the next report has taken all its time.
const KEPT_MILLIS: i64 = 10_000;
/// The longest time between two tries of a report the forge refuses.
const LONGEST_MILLIS: i64 = 3_600_000;
/// How long to wait after a refusal, which a person has to mend.
const REFUSED_MILLIS: i64 = 60_000;
/// How long a refused report is tried at all: after that the row says that it was not reported. What could not be told
/// because nobody answered is never given up.
const GIVE_UP_MILLIS: i64 = 24 * 3_600_000;
/// The longest time between two tries while nobody answers. One report in a while asks for all of an installation, so an
/// outage costs little, and its end is noticed within a minute.
const OUTAGE_MILLIS: i64 = 60_000;

/// The time: the pass's own when it began, and what passed since.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    began: Timestamp,
    since: Instant,
}

impl Clock {
    pub(super) fn started(now: Timestamp) -> Self {
        Self { began: now, since: Instant::now() }
    }

    fn now(self) -> Timestamp {
        self.began.plus_millis(i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// One pass over one writer's reports.
pub(super) struct Telling<'a> {
    context: &'a Context,
    held: Held,
    clock: Clock,
    /// Each with why nothing may be told of it, where that is so.
    repos: HashMap<RepoId, (Repo, Option<Silence>)>,
    silent_until: Timestamp,
    kept_at: Timestamp,
    told: usize,
    failed: usize,
}

pub(super) enum Trouble {
    Forge(ForgeError),
    Store(Error),
    /// Another instance has taken the writer over.
    TakenOver,
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

impl<'a> Telling<'a> {
    pub(super) fn new(context: &'a Context, held: Held, clock: Clock) -> Self {
        let repos = HashMap::new();
        Self { context, held, clock, repos, silent_until: Timestamp(0), kept_at: clock.began, told: 0, failed: 0 }
    }

    /// Tells the reports; answers how many were acknowledged and how many put off.
    pub(super) async fn all(mut self, reports: Vec<Report>) -> Result<(usize, usize), Error> {
        for report in reports {
            // A limit or an outage holds for all that is left of the installation.
            if self.silent_until > self.clock.now() {
                self.untried(&report).await?;
                self.failed += 1;
                continue;
            }
            if let Some(silence) = self.repo(&report.repo_id).await?.1 {
                self.keep_silent(&report, &silence).await?;
                self.failed += 1;
                continue;
            }
            match self.one(&report).await {
                Ok(()) => {
                    self.context.metrics.forge_call("ok");
                    self.told += 1;
                }
                Err(Trouble::Store(error)) => return Err(error),
                // What is left is hidden for as long as the other one may need.
                Err(Trouble::TakenOver) => return Ok((self.told, self.failed)),
                Err(Trouble::Forge(error)) => {
                    self.put_off(&report, &error).await?;
                    self.failed += 1;
                }
            }
        }
        let mut tx = self.context.store.begin().await?;
        tx.release_writer(&self.held, self.silent_until).await?;
        tx.commit().await?;
        Ok((self.told, self.failed))
    }

    async fn one(&mut self, report: &Report) -> Result<(), Trouble> {
        let (repo, _) = self.repo(&report.repo_id).await?;
        self.keep().await?;
        let forge = self.context.forges.of(repo.forge)?;
        let facts = repo.facts();
        let telling = tell(self.context, &forge, &facts, report);
        match tokio::time::timeout(PATIENCE, telling).await {
            Ok(shown) => self.acknowledge(report, shown?).await,
            Err(_) => Err(ForgeError::Unavailable(format!("no end after {} s", PATIENCE.as_secs())).into()),
        }
    }

    /// Makes sure that the writer stays ours for as long as the next report may take.
    async fn keep(&mut self) -> Result<(), Trouble> {
        let now = self.clock.now();
        if now.since(self.kept_at) < KEPT_MILLIS {
            return Ok(());
        }
        let mut tx = self.context.store.begin().await?;
        let mine = tx.keep_writer(&self.held, now).await?;
        tx.commit().await?;
        self.kept_at = now;
        if mine { Ok(()) } else { Err(Trouble::TakenOver) }
    }

    async fn repo(&mut self, id: &RepoId) -> Result<(Repo, Option<Silence>), Error> {
        if let Some(repo) = self.repos.get(id) {
            return Ok(repo.clone());
        }
        let repo = self.context.store.read().await?.usable_repo(id).await?;
        self.repos.insert(id.clone(), repo.clone());
        Ok(repo)
    }

    /// Writes down what the forge acknowledged, unless somebody else has been telling meanwhile: then nobody knows whose
    /// call came last, and it is told once more.
    async fn acknowledge(&mut self, report: &Report, shown: Option<Shown>) -> Result<(), Trouble> {
        let now = self.clock.now();
        if let Wanted::Deployment(wanted) = &report.wanted.0 {
            deployed::note_refusal(self.context, report, wanted, None).await?;
        }
        let mut tx = self.context.store.begin().await?;
        let check = shown.map(|shown| (shown.id, shown.noted()));
        let mine = tx.report_told(&self.held, &report.id, &report.wanted.0, check, now).await?;
        if !mine {
            tx.report_unsure(&report.id).await?;
        }
        tx.commit().await?;
        self.held.failures = 0;
        if mine { Ok(()) } else { Err(Trouble::TakenOver) }
    }

    /// Nothing may be told now: the report says why, and goes on when the forge says that it may.
    async fn keep_silent(&self, report: &Report, silence: &Silence) -> Result<(), Error> {
        let now = self.clock.now();
        let why = format!("not told: {}", silence.why);
        let mut tx = self.context.store.begin().await?;
        tx.report_failed(&report.id, &why, now.plus_millis(LONGEST_MILLIS), silence.for_good.then_some(now)).await?;
        tx.spend(&self.held.writer, -i64::from(report.creates()), now).await?;
        tx.commit().await
    }

    /// Gives back a report that nobody asked the forge about, and what it would have created.
    async fn untried(&self, report: &Report) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.context.store.begin().await?;
        tx.report_untried(&report.id, self.silent_until).await?;
        tx.spend(&self.held.writer, -i64::from(report.creates()), now).await?;
        tx.commit().await
    }

    async fn put_off(&mut self, report: &Report, error: &ForgeError) -> Result<(), Error> {
        let now = self.clock.now();
        let mut gave_up_at = None;
        let (outcome, at) = match error {
            ForgeError::RateLimited { until } => {
                self.silent_until = *until;
                ("rate_limited", *until)
            }
            ForgeError::Refused(_) | ForgeError::NotFound(_) => {
                gave_up_at = (now.since(report.updated_at) > GIVE_UP_MILLIS).then_some(now);
                ("refused", now.plus_millis(REFUSED_MILLIS.max(backoff(report.attempts, LONGEST_MILLIS))))
            }
            ForgeError::Unavailable(_) | ForgeError::NotConfigured(_) => {
                self.held.failures += 1;
                self.silent_until = now.plus_millis(backoff(self.held.failures, OUTAGE_MILLIS));
                ("unavailable", now.plus_millis(backoff(report.attempts, OUTAGE_MILLIS)).max(self.silent_until))
            }
        };
        self.context.metrics.forge_call(outcome);
        if let (Wanted::Deployment(wanted), ForgeError::Refused(_)) = (&report.wanted.0, error) {
            // The permission is optional. Asking for every deployment again and again would change nothing.
            deployed::note_refusal(self.context, report, wanted, Some(error)).await?;
            gave_up_at = Some(now);
        }
        let external_id = &report.external_id;
        if gave_up_at.is_some() {
            tracing::error!(%external_id, %error, "{external_id} was not reported in 24 hours: {error}");
        } else {
            tracing::warn!(%external_id, %error, attempts = report.attempts, "{external_id} could not be reported: {error}");
        }
        let text = if gave_up_at.is_some() { format!("not reported: {error}") } else { error.to_string() };
        let mut tx = self.context.store.begin().await?;
        tx.report_failed(&report.id, &text, at, gave_up_at).await?;
        if outcome != "unavailable" {
            tx.spend(&self.held.writer, -i64::from(report.creates()), now).await?;
        }
        tx.commit().await
    }
}

/// What the forge shows: a check run and how many notes it has, or a comment.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) id: i64,
    pub(super) notes: usize,
}

impl Shown {
    fn noted(self) -> i64 {
        i64::try_from(self.notes).unwrap_or(i64::MAX)
    }
}

async fn tell(context: &Context, forge: &Forge, repo: &RepoFacts, report: &Report) -> Result<Option<Shown>, Trouble> {
    if report.told.as_ref() == Some(&report.wanted) && report.annotations_told >= wanted_notes(report) {
        return Ok(None);
    }
    match &report.wanted.0 {
        Wanted::Status(status) => {
            forge.set_status(repo, &report.sha, status).await?;
            Ok(None)
        }
        Wanted::Check(check) => Ok(Some(tell_check(context, forge, repo, report, check).await?)),
        Wanted::Comment(comment) => Ok(Some(conversation::tell_comment(context, forge, repo, report, comment).await?)),
        Wanted::Receipt { comment, reaction } => {
            conversation::tell_receipt(forge, repo, *comment, *reaction).await?;
            Ok(None)
        }
        Wanted::Deployment(wanted) => {
            deployed::tell(context, forge, repo, report, wanted).await?;
            Ok(None)
        }
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
) -> Result<Shown, Trouble> {
    let mut id = report.forge_id;
    let mut noted = usize::try_from(report.annotations_told).unwrap_or(0);
    // More than one attempt: the answer to an earlier call may have been lost. A creation is looked for, and notes that
    // arrived are counted, because a forge adds them a second time without a word.
    if report.attempts > 1 {
        if id.is_none() {
            id = forge.find_check(repo, check).await?;
        }
        if let Some(id) = id.filter(|_| noted < check.annotations.len()) {
            noted = known(context, report, forge.count_annotations(repo, id).await).await?;
        }
    }
    let mut shown = match id {
        Some(id) => update(context, forge, repo, report, check, Shown { id, notes: noted }).await?,
        None => {
            let id = forge.create_check(repo, check).await?;
            Shown { id, notes: check.annotations.len().min(ANNOTATIONS) }
        }
    };
    // What does not fit into one request follows in further ones, which add to it.
    while shown.notes < check.annotations.len() {
        remember(context, report, Some(shown)).await?;
        shown = update(context, forge, repo, report, check, shown).await?;
    }
    Ok(shown)
}

async fn update(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    report: &Report,
    check: &CheckRun,
    shown: Shown,
) -> Result<Shown, Trouble> {
    let rest = &check.annotations[shown.notes.min(check.annotations.len())..];
    let batch = &rest[..rest.len().min(ANNOTATIONS)];
    known(context, report, forge.update_check(repo, shown.id, check, batch).await).await?;
    Ok(Shown { notes: shown.notes + batch.len(), ..shown })
}

/// The answer about a check run. Where it is gone at the forge, that is remembered: the next try makes it anew.
async fn known<T>(context: &Context, report: &Report, answer: Result<T, ForgeError>) -> Result<T, Trouble> {
    if let Err(ForgeError::NotFound(_)) = &answer {
        remember(context, report, None).await?;
    }
    Ok(answer?)
}

pub(super) async fn remember(context: &Context, report: &Report, shown: Option<Shown>) -> Result<(), Error> {
    let mut tx = context.store.begin().await?;
    tx.report_created(&report.id, shown.map(|shown| shown.id), shown.map_or(0, Shown::noted)).await?;
    tx.commit().await
}

/// Two seconds, then twice as long each time, at most `longest`, spread by a fifth so that not all come back at once.
fn backoff(attempts: i64, longest: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 12)).unwrap_or(12);
    let delay = (1000_i64 << doublings).min(longest);
    delay - rand::rng().random_range(0..=delay / 5)
}
