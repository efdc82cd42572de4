//! What the forge should show, and what it was told. A row whose two texts differ is work; equality is the goal.
//!
//! Who tells, and how much at a time, is in [`super::writers`]. A row that is being worked on is hidden by its
//! `next_try_at`; nobody but the worker brings that time nearer.

use super::writers::Held;
use super::{Json, Result, Tx, with_conn};
use crate::forge::comments::Reaction;
use crate::forge::deployments::{Deployment, DeploymentStatus};
use crate::forge::{CheckRun, CommitStatus};
use crate::model::ids::{RepoId, ReportId, RunId, StageId};
use crate::model::stage::Stage;
use crate::model::state::RunState;
use crate::model::time::Timestamp;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::{Annotation, AnnotationLevel, FinishRequest, JobError};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

/// The check run that shows what is wrong with definitions.
pub const DEFINITIONS: &str = "rivet / definitions";
/// The most annotations one check run shows.
pub const MAX_ANNOTATIONS: usize = 500;

/// The most problems of definitions a summary lists.
const LISTED: usize = 100;

/// What the forge should show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wanted {
    /// A check run.
    Check(CheckRun),
    /// A commit status.
    Status(CommitStatus),
    /// The one comment on a pull request.
    Comment(LivingComment),
    /// A receipt on somebody's comment.
    Receipt {
        /// The comment.
        comment: i64,
        /// Which.
        reaction: Reaction,
    },
    /// A deployment and how it stands.
    Deployment(DeploymentReport),
}

/// A deployment as the forge should show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentReport {
    /// What it is: told once.
    pub deployment: Deployment,
    /// How it stands.
    pub status: DeploymentStatus,
}

/// Rivet's own comment on a pull request: written once, then changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivingComment {
    /// On which.
    pub pull_request: i64,
    /// Markdown; it begins with [`LivingComment::MARKER`].
    pub body: String,
}

impl LivingComment {
    /// By this it is found again at the forge. Nobody sees it.
    pub const MARKER: &'static str = "<!-- rivet: answers to commands -->";
}

impl Wanted {
    /// What tells rows of one commit apart.
    pub fn external_id(&self) -> String {
        match self {
            Self::Check(check) => check.external_id.clone(),
            Self::Status(status) => format!("status:{}", status.context.to_lowercase()),
            Self::Comment(comment) => format!("comment:{}", comment.pull_request),
            Self::Receipt { comment, .. } => format!("receipt:{comment}"),
            Self::Deployment(report) => report.deployment.external_id.clone(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Status(_) => "status",
            Self::Comment(_) => "comment",
            Self::Receipt { .. } => "receipt",
            Self::Deployment(_) => "deployment",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Check(check) => &check.name,
            Self::Status(status) => &status.context,
            Self::Comment(_) => "answers to commands",
            Self::Receipt { .. } => "receipt",
            Self::Deployment(report) => &report.deployment.environment,
        }
    }

    /// Whether it says that something waits for people, and lets them answer.
    pub fn is_gate(&self) -> bool {
        match self {
            Self::Check(check) => check.conclusion.is_none() && check.actions.iter().any(|a| a.identifier == "approve"),
            Self::Status(_) | Self::Comment(_) | Self::Receipt { .. } | Self::Deployment(_) => false,
        }
    }

    /// How much people wait for it: 0 for an end and for what asks somebody, more for what only tells how it goes on.
    fn urgency(&self) -> i64 {
        match self {
            Self::Check(check) if check.conclusion.is_some() || check.actions.len() > 1 => 0,
            Self::Status(status) if status.state != "pending" => 0,
            // Somebody asked and waits for it.
            Self::Comment(_) | Self::Receipt { .. } | Self::Deployment(_) => 0,
            Self::Status(_) => 1,
            Self::Check(check) if check.status == "in_progress" => 2,
            Self::Check(_) => 3,
        }
    }

    /// Whether this may follow `earlier` on the same row. A completed check run is never opened again: its next try is
    /// another check run.
    pub fn may_follow(&self, earlier: &Self) -> bool {
        match (earlier, self) {
            (Self::Check(earlier), Self::Check(now)) => earlier.conclusion.is_none() || now.conclusion.is_some(),
            (Self::Check(_) | Self::Status(_) | Self::Comment(_) | Self::Receipt { .. } | Self::Deployment(_), _) => {
                true
            }
        }
    }
}

/// Where a report belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportKey {
    /// The repository.
    pub repo_id: RepoId,
    /// The commit.
    pub sha: String,
    /// The run it comes from, if there is one.
    pub run_id: Option<RunId>,
    /// The stage it comes from, if there is one.
    pub stage_id: Option<StageId>,
}

/// A stored report.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Report {
    /// Its id.
    pub id: ReportId,
    /// The repository.
    pub repo_id: RepoId,
    /// The run it comes from.
    pub run_id: Option<RunId>,
    /// The commit.
    pub sha: String,
    /// What tells rows of one commit apart.
    pub external_id: String,
    /// What the forge should show.
    pub wanted: Json<Wanted>,
    /// What it last acknowledged.
    pub told: Option<Json<Wanted>>,
    /// How many annotations it acknowledged.
    pub annotations_told: i64,
    /// The check run's id at the forge, once known.
    pub forge_id: Option<i64>,
    /// Tries since the last success, the one in progress counted.
    pub attempts: i64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Since when this is wanted.
    pub updated_at: Timestamp,
    /// Whether it is a status that speaks for a pull request.
    pub for_pull: bool,
}

impl Report {
    /// Whether telling it creates something at the forge: a status always does, a check run the first time.
    pub fn creates(&self) -> bool {
        self.forge_id.is_none()
    }
}

/// The little of a run that reports are made of.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the run table")]
pub struct RunToReport {
    #[sqlx(rename = "run_repo_id")]
    pub repo_id: RepoId,
    #[sqlx(rename = "run_number")]
    pub number: i64,
    #[sqlx(rename = "run_pipeline")]
    pub pipeline: String,
    #[sqlx(rename = "run_sha")]
    pub sha: String,
    #[sqlx(rename = "run_state")]
    pub state: RunState,
    #[sqlx(rename = "run_reason")]
    pub reason: String,
    /// Whether it speaks for a pull request.
    #[sqlx(rename = "run_for_pull")]
    pub for_pull: bool,
    /// Whether it makes an earlier deployment again.
    #[sqlx(rename = "run_rollback")]
    pub rollback: bool,
    /// Whether a stage of another run started it.
    #[sqlx(rename = "run_is_child")]
    pub is_child: bool,
}

macro_rules! run_to_report {
    () => {
        "run.repo_id AS run_repo_id, run.number AS run_number, run.pipeline AS run_pipeline, run.sha AS run_sha,
         run.state AS run_state, run.reason AS run_reason, run.pull_request IS NOT NULL AS run_for_pull,
         run.rollback_to IS NOT NULL AS run_rollback, run.parent_stage_id IS NOT NULL AS run_is_child"
    };
}

/// An ended try of a stage.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StageTry {
    /// Of which stage.
    pub stage_id: StageId,
    /// Which one, from 1.
    pub attempt: i64,
    /// How it ended.
    pub conclusion: Option<String>,
    /// What its runner said, where it said something.
    pub result: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When its code began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl StageTry {
    /// Why it did not succeed, where its runner said so.
    pub fn error(&self) -> Option<JobError> {
        let result: FinishRequest = serde_json::from_str(self.result.as_deref()?).ok()?;
        result.outcome.error
    }
}

/// Ids in the order they were asked for, also within one millisecond: a run's stages are told in the plan's order.
fn next_id() -> ReportId {
    static IDS: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());
    let next = IDS.lock().unwrap_or_else(PoisonError::into_inner).generate();
    next.map_or_else(|_| ReportId::generate(), |id| ReportId(id.to_string().to_lowercase()))
}

/// Rows one statement writes: few, so that each of the statements stays prepared.
const MOST_AT_ONCE: usize = 8;

fn upsert(rows: usize) -> String {
    let each = (0..rows).map(|row| {
        let bind: Vec<String> = (0..10).map(|place| format!("${}", 10 * row + place + 3)).collect();
        format!("({}, $1, $1, $2, {})", bind[..9].join(", "), bind[9])
    });
    format!(
        "INSERT INTO report (id, repo_id, run_id, stage_id, kind, sha, name, external_id, wanted, next_try_at, updated_at,
                             for_pull, urgency)
         VALUES {} ON CONFLICT (repo_id, sha, external_id) DO UPDATE SET for_pull = excluded.for_pull,
             wanted = excluded.wanted, run_id = excluded.run_id, stage_id = excluded.stage_id, open = TRUE,
             urgency = excluded.urgency, gave_up_at = NULL,
             next_try_at = CASE WHEN report.open THEN report.next_try_at ELSE excluded.next_try_at END,
             updated_at = excluded.updated_at",
        each.collect::<Vec<_>>().join(", ")
    )
}

/// Whether what is wanted changes what is stored.
fn changes(key: &ReportKey, wanted: &Wanted, for_pull: bool, earlier: Option<&Report>) -> bool {
    let Some(earlier) = earlier else { return true };
    // Run ids sort by age: the newest run speaks for a context.
    let newer_stands = (earlier.for_pull, &earlier.run_id) > (for_pull, &key.run_id);
    let same = earlier.wanted.0 == *wanted && earlier.for_pull == for_pull;
    !newer_stands && !same && wanted.may_follow(&earlier.wanted.0)
}

pub(super) const COLUMNS: &str = "id, repo_id, run_id, sha, external_id, wanted, told, annotations_told, forge_id,
                       attempts, last_error, updated_at, for_pull";

impl Tx {
    /// Remembers that what the forge shows of a run must be computed anew. Call it in every transaction that changes a run
    /// or a stage. (The conflicting row is written, not skipped: that locks it, so no pass can take it away unseen.)
    pub async fn report_is_due(&mut self, run: &RunId, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO report_due (run_id, since) VALUES ($1, $2)
                   ON CONFLICT (run_id) DO UPDATE SET since = report_due.since";
        with_conn!(self, conn => sqlx::query(sql).bind(run).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Takes runs whose reports are due since `before`, at most `limit`. They are gone with this transaction's commit.
    pub async fn take_due_reports(&mut self, before: Timestamp, limit: i64) -> Result<Vec<RunId>> {
        let sql = match self {
            Self::Postgres(_) => {
                "DELETE FROM report_due WHERE run_id IN (SELECT run_id FROM report_due WHERE since <= $1
                     ORDER BY since, run_id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING run_id"
            }
            Self::Sqlite(_) => {
                "DELETE FROM report_due WHERE run_id IN (SELECT run_id FROM report_due WHERE since <= $1
                     ORDER BY since, run_id LIMIT $2) RETURNING run_id"
            }
        };
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(before).bind(limit).fetch_all(conn).await?))
    }

    /// When the oldest due report became due, and when the next open report may be tried.
    pub async fn next_report_times(&mut self) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
        let sql = "SELECT (SELECT MIN(since) FROM report_due), (SELECT MIN(next_try_at) FROM report WHERE open)";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).fetch_one(conn).await?))
    }

    /// The reports of a run.
    pub async fn reports_of(&mut self, run: &RunId) -> Result<Vec<Report>> {
        let sql = format!("SELECT {COLUMNS} FROM report WHERE run_id = $1 ORDER BY id");
        // The text holds nothing but the list of columns.
        Ok(with_conn!(self, conn => sqlx::query_as(AssertSqlSafe(sql)).bind(run).fetch_all(conn).await?))
    }

    /// What reports say of a run, and its stages in the plan's order: in one statement, but for a run without stages.
    pub async fn run_to_report(&mut self, run: &RunId) -> Result<Option<(RunToReport, Vec<Stage>)>> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(flatten)]
            run: RunToReport,
            #[sqlx(flatten)]
            stage: Stage,
        }
        let both = concat!(
            "SELECT stage.*, ",
            run_to_report!(),
            " FROM run JOIN stage ON stage.run_id = run.id WHERE run.id = $1 ORDER BY stage.position, stage.id"
        );
        let rows: Vec<Row> = with_conn!(self, conn => sqlx::query_as(both).bind(run).fetch_all(conn).await?);
        let mut found = None;
        let mut stages = Vec::with_capacity(rows.len());
        for row in rows {
            found.get_or_insert(row.run);
            stages.push(row.stage);
        }
        if found.is_none() {
            let alone = concat!("SELECT ", run_to_report!(), " FROM run WHERE run.id = $1");
            found = with_conn!(self, conn => sqlx::query_as(alone).bind(run).fetch_optional(conn).await?);
        }
        Ok(found.map(|run| (run, stages)))
    }

    /// The ended tries of a run's stages, oldest first.
    pub async fn tries_to_report(&mut self, run: &RunId) -> Result<Vec<StageTry>> {
        let sql = "SELECT stage_id, attempt, conclusion, result, created_at, started_at, finished_at FROM job
                   WHERE run_id = $1 AND kind = 'stage' AND state = 'finished' ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// The report with this external id on a commit.
    pub async fn report(&mut self, repo: &RepoId, sha: &str, external_id: &str) -> Result<Option<Report>> {
        let sql = format!("SELECT {COLUMNS} FROM report WHERE repo_id = $1 AND sha = $2 AND external_id = $3");
        Ok(with_conn!(self, conn => {
            sqlx::query_as(AssertSqlSafe(sql)).bind(repo).bind(sha).bind(external_id).fetch_optional(conn).await?
        }))
    }

    /// Wants the forge to show something, unless it already should, or something newer stands there.
    pub async fn want(&mut self, key: &ReportKey, wanted: &Wanted, now: Timestamp) -> Result<()> {
        self.want_as(key, wanted, false, now).await
    }

    /// The same, with the word of whether it speaks for a pull request. A commit has one status of a name: what a push of
    /// the same commit comes to must not stand in the place of what its pull request came to.
    pub async fn want_as(&mut self, key: &ReportKey, wanted: &Wanted, for_pull: bool, now: Timestamp) -> Result<()> {
        let earlier = self.report(&key.repo_id, &key.sha, &wanted.external_id()).await?;
        self.want_as_after(key, wanted, for_pull, earlier.as_ref(), now).await
    }

    /// [`Tx::want`] where the stored row is known.
    pub async fn want_after(
        &mut self,
        key: &ReportKey,
        wanted: &Wanted,
        earlier: Option<&Report>,
        now: Timestamp,
    ) -> Result<()> {
        self.want_as_after(key, wanted, false, earlier, now).await
    }

    /// [`Tx::want_as`] where the stored row is known.
    pub async fn want_as_after(
        &mut self,
        key: &ReportKey,
        wanted: &Wanted,
        for_pull: bool,
        earlier: Option<&Report>,
        now: Timestamp,
    ) -> Result<()> {
        match changes(key, wanted, for_pull, earlier) {
            true => self.put_reports(&[(key, wanted)], for_pull, now).await,
            false => Ok(()),
        }
    }

    /// [`Tx::want_after`] for several things of one commit, each with its stored row, a few in a statement. Of two with one
    /// external id the later one counts, as it would one after the other: Postgres refuses a statement with both.
    pub async fn want_all_after(&mut self, all: &[(ReportKey, Wanted, Option<&Report>)], now: Timestamp) -> Result<()> {
        let mut new: Vec<(&ReportKey, &Wanted)> = vec![];
        let mut places = HashMap::new();
        for (key, wanted, _) in all.iter().filter(|(key, wanted, earlier)| changes(key, wanted, false, *earlier)) {
            match places.entry(wanted.external_id()) {
                Entry::Occupied(place) => new[*place.get()] = (key, wanted),
                Entry::Vacant(place) => {
                    place.insert(new.len());
                    new.push((key, wanted));
                }
            }
        }
        self.put_reports(&new, false, now).await
    }

    async fn put_reports(&mut self, rows: &[(&ReportKey, &Wanted)], for_pull: bool, now: Timestamp) -> Result<()> {
        for rows in rows.chunks(MOST_AT_ONCE) {
            let sql = upsert(rows.len());
            with_conn!(self, conn => {
                // The text holds nothing but the numbers of its places.
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(now).bind(for_pull);
                for (key, wanted) in rows {
                    query = query.bind(next_id()).bind(&key.repo_id).bind(&key.run_id).bind(&key.stage_id);
                    query = query.bind(wanted.kind()).bind(&key.sha).bind(wanted.name()).bind(wanted.external_id());
                    query = query.bind(Json(*wanted)).bind(wanted.urgency());
                }
                query.execute(conn).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Remembers a check run's id at the forge as soon as it is known.
    pub async fn report_created(&mut self, id: &ReportId, forge_id: Option<i64>, annotations: i64) -> Result<()> {
        let sql = "UPDATE report SET forge_id = $2, annotations_told = $3 WHERE id = $1";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(id).bind(forge_id).bind(annotations).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Remembers what the forge acknowledged (and, of a check run, its id and how many notes it has). The row stays open
    /// where something else is wanted meanwhile. `false` where the writer is not held any more, and nothing was remembered.
    pub async fn report_told(
        &mut self,
        held: &Held,
        id: &ReportId,
        told: &Wanted,
        check: Option<(i64, i64)>,
        now: Timestamp,
    ) -> Result<bool> {
        let sql =
            "UPDATE report SET told = $2, open = (wanted <> $2), attempts = 0, last_error = NULL, next_try_at = $3,
                       forge_id = COALESCE($4, forge_id), annotations_told = COALESCE($5, annotations_told),
                       gate_told_at = CASE WHEN $8 THEN COALESCE(gate_told_at, $3) END
                   WHERE id = $1 AND EXISTS (SELECT 1 FROM report_writer WHERE writer = $6 AND holder = $7)";
        let (forge_id, notes) = check.unzip();
        let done = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(id).bind(Json(told)).bind(now).bind(forge_id).bind(notes);
            let query = query.bind(&held.writer).bind(&held.holder).bind(told.is_gate());
            query.execute(conn).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// Puts a report off; one that is given up stays untold until something else is wanted or somebody asks.
    pub async fn report_failed(
        &mut self,
        id: &ReportId,
        error: &str,
        at: Timestamp,
        gave_up_at: Option<Timestamp>,
    ) -> Result<()> {
        let sql = "UPDATE report SET last_error = $2, next_try_at = $3, open = ($4 IS NULL), gave_up_at = $4
                   WHERE id = $1";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(id).bind(error).bind(at).bind(gave_up_at).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Gives a report back that nobody asked the forge about: the attempt did not happen.
    pub async fn report_untried(&mut self, id: &ReportId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE report SET attempts = attempts - 1, next_try_at = $2 WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(at).execute(conn).await?.rows_affected());
        Ok(())
    }
}

/// Wants the check run `rivet / definitions` on a commit: failed, with a note on each line that is wrong, or (where it
/// failed before) passed. Without problems nothing is shown.
pub async fn want_definitions_check(
    tx: &mut Tx,
    repo_id: &RepoId,
    sha: &str,
    problems: &[Problem],
    url: &str,
    now: Timestamp,
) -> Result<()> {
    want_definitions_and_changes(tx, repo_id, sha, problems, None, url, now).await
}

/// The same with what a change of `.rivet/` changes: a title, and a line for each thing.
pub async fn want_definitions_and_changes(
    tx: &mut Tx,
    repo_id: &RepoId,
    sha: &str,
    problems: &[Problem],
    changed: Option<(String, Vec<String>)>,
    url: &str,
    now: Timestamp,
) -> Result<()> {
    let key = ReportKey { repo_id: repo_id.clone(), sha: sha.to_owned(), run_id: None, stage_id: None };
    if problems.is_empty() && changed.is_none() && tx.report(repo_id, sha, "definitions").await?.is_none() {
        return Ok(());
    }
    let mut check = definitions_check(sha, problems, url);
    if let Some((title, lines)) = changed {
        use crate::forge::markdown::{SUMMARY_BYTES, fenced, one_line};
        // What is wrong is said first; what is gained must not be missed where nothing is.
        if !problems.iter().any(Problem::is_error) {
            check.title = one_line(&title, 120);
        }
        let shown = fenced(&lines.join("\n"), SUMMARY_BYTES / 3);
        check.summary.push_str(&format!("\n\n**{}**, compared with the base:\n\n{shown}", one_line(&title, 200)));
    }
    tx.want(&key, &Wanted::Check(check), now).await
}

fn definitions_check(sha: &str, problems: &[Problem], url: &str) -> CheckRun {
    let errors = problems.iter().filter(|p| p.is_error()).count();
    let (conclusion, title) = match (errors, problems.len()) {
        (0, 0) => ("success", "The definitions load".to_owned()),
        (0, 1) => ("success", "1 warning about the definitions".to_owned()),
        (0, warnings) => ("success", format!("{warnings} warnings about the definitions")),
        (1, _) => ("failure", "Configuration error: mend 1 problem in .rivet/".to_owned()),
        (errors, _) => ("failure", format!("Configuration error: mend {errors} problems in .rivet/")),
    };
    // Those that stop a pipeline first: what is cut off matters least.
    let mut gravest: Vec<&Problem> = problems.iter().collect();
    gravest.sort_by_key(|problem| !problem.is_error());
    let lines: Vec<String> = gravest.iter().take(LISTED).map(ToString::to_string).collect();
    gravest.truncate(MAX_ANNOTATIONS);
    let rest = match problems.len().saturating_sub(LISTED) {
        0 => String::new(),
        left if problems.len() <= MAX_ANNOTATIONS => format!(" {left} more stand on their lines."),
        left => format!(" {left} more are not listed here; {MAX_ANNOTATIONS} stand on their lines."),
    };
    let summary = match lines.is_empty() {
        true => "Every definition loads.".to_owned(),
        false => format!(
            "{}\n\nOther files' pipelines still run.{rest} `rivet check` says all of it on your machine.",
            crate::forge::markdown::fenced(&lines.join("\n"), crate::forge::markdown::SUMMARY_BYTES / 2)
        ),
    };
    CheckRun {
        name: DEFINITIONS.to_owned(),
        head_sha: sha.to_owned(),
        external_id: "definitions".to_owned(),
        details_url: url.to_owned(),
        status: "completed".to_owned(),
        conclusion: Some(conclusion.to_owned()),
        // No times: looking once more at the same commit must want the same.
        started_at: None,
        completed_at: None,
        title,
        summary,
        annotations: gravest.into_iter().filter_map(annotation).collect(),
        actions: vec![],
    }
}

fn annotation(problem: &Problem) -> Option<Annotation> {
    let at = problem.at.as_ref()?;
    let hint = problem.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
    Some(Annotation {
        path: at.file.clone(),
        line: at.line.max(1),
        end_line: None,
        level: if problem.is_error() { AnnotationLevel::Failure } else { AnnotationLevel::Warning },
        title: Some(problem.code.clone()),
        message: format!("{}{hint}", problem.message),
    })
}

/// Wants a commit status that comes from no run: a pipeline that was meant for the commit and did not start still has to
/// report, or a branch that requires it waits for ever.
#[expect(clippy::too_many_arguments, reason = "one status, said in one line by its callers")]
pub async fn want_status(
    tx: &mut Tx,
    repo_id: &RepoId,
    sha: &str,
    pipeline: &str,
    state: StatusState,
    description: &str,
    url: &str,
    now: Timestamp,
) -> Result<()> {
    let key = ReportKey { repo_id: repo_id.clone(), sha: sha.to_owned(), run_id: None, stage_id: None };
    tx.want(&key, &Wanted::Status(commit_status(pipeline, state, description, url)), now).await
}

/// A commit status's state, in GitHub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum StatusState {
    /// Not decided yet.
    Pending,
    /// Good.
    Success,
    /// The code is not.
    Failure,
    /// Something else is not.
    Error,
}

/// The status `rivet/PIPELINE`.
pub fn commit_status(pipeline: &str, state: StatusState, description: &str, url: &str) -> CommitStatus {
    CommitStatus {
        context: format!("rivet/{pipeline}"),
        state: state.to_string(),
        description: crate::forge::markdown::one_line(description, 140),
        target_url: url.to_owned(),
    }
}
