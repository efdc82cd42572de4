//! What somebody should see before they agree: everything an approval is bound to, and what changes by it. Nothing here
//! decides anything.

use crate::actions::approve::Seen;
use crate::context::Context;
use crate::engine::advance::Error;
use crate::engine::policies;
use crate::forge::ForgeError;
use crate::model::approval::Verdict;
use crate::model::ids::RunId;
use crate::model::run::Run;
use crate::model::stage::Stage;
use crate::model::state::StageState;
use crate::model::time::Timestamp;
use pipelines_spec::plan::{Action, Plan};
use pipelines_spec::protocol::Sources;
use serde::Serialize;
use serde_json::{Map, Value};
use similar::TextDiff;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Bytes of one file's difference that are shown.
const DIFF_BYTES: usize = 64 << 10;
/// Commits and files that are listed.
const LISTED: usize = 100;

/// A gate with everything that stands behind it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Review {
    /// The run.
    pub run: String,
    /// Its number.
    pub number: i64,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline's stem.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// Its state.
    pub state: String,
    /// Why it stands there.
    pub reason: String,
    /// The commit people see.
    pub head: String,
    /// The commit that is built.
    pub sha: String,
    /// The pull request.
    pub pull_request: Option<i64>,
    /// What it deploys to.
    pub environment: Option<String>,
    /// The plan an approval is bound to.
    pub plan_digest: String,
    /// The inputs; secret ones are hidden.
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Names of the secrets that open up to it.
    pub secrets: Vec<String>,
    /// What it runs in.
    pub image: Option<String>,
    /// What it ran in before, where that is known.
    pub image_before: Option<String>,
    /// What undoes it, in words.
    pub rollback: String,
    /// Who may approve.
    pub who: Who,
    /// Every decision so far, oldest first.
    pub decisions: Vec<Decided>,
    /// What leads here, and from where.
    pub since: Option<Since>,
    /// What is different about `.rivet/` from there.
    pub definitions: Vec<FileDiff>,
    /// The same in words, what is gained first.
    pub changes: Vec<String>,
    /// What could not be found out.
    pub unknown: Vec<String>,
    /// What to type in a comment.
    pub command: String,
}

/// Who may approve.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Who {
    /// Logins, groups, teams; empty: anyone who may write.
    pub reviewers: Vec<String>,
    /// Of whom they must be one as well, by the policy.
    pub policy_reviewers: Vec<String>,
    /// How many different people.
    pub count: i64,
    /// How many said yes that counts.
    pub given: i64,
    /// Whether who caused the run may not.
    pub prevent_self: bool,
    /// When the gate closes by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A decision that was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Decided {
    /// By whom.
    pub actor: String,
    /// `approve` or `reject`.
    pub decision: String,
    /// Where it was said.
    pub via: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Of which commit.
    pub head: String,
    /// Why it does not count any more.
    pub void_reason: Option<String>,
    /// What they added.
    pub comment: Option<String>,
}

/// What leads to this commit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Since {
    /// From where, in words: `deployment 3 of production`, `the base`.
    pub what: String,
    /// That commit.
    pub sha: String,
    /// The commits since, oldest first: id and first line.
    pub commits: Vec<(String, String)>,
    /// How many there are.
    pub total: i64,
    /// The files they change; `None`: more than the forge lists.
    pub files: Option<Vec<String>>,
}

/// A file's difference.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FileDiff {
    /// The file.
    pub path: String,
    /// As `diff -u` shows it.
    pub diff: String,
}

/// Everything about one gate.
pub async fn review(context: &Context, run: &RunId, stage: &str, now: Timestamp) -> Result<Review, Error> {
    let seen = Seen::read(context, run).await?;
    let found = seen.stages.iter().find(|s| s.name == stage || s.base == stage).ok_or(Error::NotFound)?;
    let (plan, own, last) = {
        let mut tx = context.store.read().await?;
        let plan = tx.run_plan(run).await?;
        let own = tx.bundle(&seen.run.bundle_digest).await?;
        let last = match &found.spec.0.stage.environment {
            Some(environment) => tx.last_deployment(&seen.repo.id, environment).await?,
            None => None,
        };
        (plan, own, last)
    };
    let last = last.map(|last| (format!("deployment {} of {}", last.number, last.environment), last.sha));
    let mut review = known(&seen, found, &plan, now);
    if let Some((what, from)) = last.or_else(|| base(&seen.run)) {
        compared(context, &seen, found, &own, (what, from), &mut review).await;
    }
    Ok(review)
}

/// Where a run without a deployment before it comes from.
fn base(run: &Run) -> Option<(String, String)> {
    let facts = &run.facts.0;
    match (&facts.pull_request, &facts.before) {
        (Some(pull), _) => Some((format!("the base, {}", pull.base), pull.base_sha.clone())),
        (None, Some(before)) => Some(("the commit before the push".to_owned(), before.clone())),
        (None, None) => None,
    }
}

/// What is stored here.
fn known(seen: &Seen, stage: &Stage, plan: &Plan, now: Timestamp) -> Review {
    let run = &seen.run;
    let spec = &stage.spec.0.stage;
    let rules = spec.approval.as_ref();
    let admitted = seen.is_admitted(now);
    let about = if admitted { Some(&stage.id) } else { None };
    let decisions: Vec<_> = seen.approvals.iter().filter(|a| a.stage_id.as_ref() == about).collect();
    let counts = |a: &&&crate::model::approval::Approval| a.decision == Verdict::Approve && a.voided_at.is_none();
    let given: BTreeSet<&str> = decisions.iter().filter(counts).map(|a| a.approver.as_str()).collect();
    let mut inputs = run.inputs.0.clone();
    for name in &plan.secret_inputs {
        if let Some(value) = inputs.get_mut(name) {
            *value = Value::String("***".to_owned());
        }
    }
    let head = run.short_head();
    Review {
        run: run.id.0.clone(),
        number: run.number,
        repo: seen.repo.full_name(),
        pipeline: run.pipeline.clone(),
        stage: stage.name.clone(),
        state: stage.state.to_string(),
        reason: stage.reason.clone(),
        head: run.head().to_owned(),
        sha: run.sha.clone(),
        pull_request: run.pull_request,
        environment: spec.environment.clone(),
        plan_digest: run.plan_digest.clone(),
        inputs,
        // A stranger's run gets none, whoever lets it in.
        secrets: if run.trust.0 == pipelines_spec::protocol::Trust::Trusted { spec.secrets.clone() } else { vec![] },
        image: spec.container.clone(),
        image_before: None,
        rollback: match spec.rollback.as_ref().map(|rollback| &rollback.action) {
            None => "nothing undoes it".to_owned(),
            Some(Action::Run { run }) => run.join("; "),
            Some(Action::Script | Action::Pipeline { .. }) => "its rollback function".to_owned(),
        },
        who: Who {
            reviewers: rules.filter(|_| admitted).map(|rules| rules.reviewers.clone()).unwrap_or_default(),
            policy_reviewers: rules.filter(|_| admitted).map(|r| r.policy_reviewers.clone()).unwrap_or_default(),
            count: if admitted { stage.approvals_needed } else { 1 },
            given: i64::try_from(given.len()).unwrap_or(i64::MAX),
            prevent_self: admitted && rules.is_some_and(|rules| rules.prevent_self),
            expires_at: stage.expires_at.filter(|_| stage.state == StageState::AwaitingApproval),
        },
        decisions: decisions
            .iter()
            .map(|a| Decided {
                actor: a.actor.clone(),
                decision: a.decision.to_string(),
                via: a.via.clone(),
                at: a.created_at,
                head: a.head_sha.clone(),
                void_reason: a.void_reason.clone(),
                comment: a.comment.clone(),
            })
            .collect(),
        since: None,
        definitions: vec![],
        changes: vec![],
        unknown: vec![],
        command: if admitted { format!("/approve {} {head}", stage.base) } else { format!("/ok-to-test {head}") },
    }
}

/// What the forge knows: commits, files and definitions since another commit. What it does not tell is said to be unknown.
async fn compared(
    context: &Context,
    seen: &Seen,
    stage: &Stage,
    own: &Sources,
    (what, from): (String, String),
    review: &mut Review,
) {
    let Some(forge) = &seen.forge else { return };
    let repo = seen.repo.facts();
    let tell = |part: &str, error: ForgeError| format!("{part} since {what} are not known: {error}.");
    match forge.commits_between(&repo, &from, &seen.run.sha).await {
        Ok(commits) => {
            let line = |message: &str| message.lines().next().unwrap_or_default().to_owned();
            let list = commits.list.iter().rev().take(LISTED).rev();
            review.since = Some(Since {
                what: what.clone(),
                sha: from.clone(),
                commits: list.map(|commit| (commit.sha.clone(), line(&commit.message))).collect(),
                total: commits.total,
                files: commits.files.filter(|files| files.len() <= LISTED * 3),
            });
        }
        Err(error) => review.unknown.push(tell("The commits", error)),
    }
    let before = match forge.sources(&repo, &from).await {
        Ok(loaded) => loaded.sources,
        Err(error) => return review.unknown.push(tell("The definitions", error)),
    };
    review.definitions = differences(&before, own);
    let facts = &seen.run.facts.0;
    let (old, _) = policies::pipelines(context, &before, facts, "the earlier").await;
    let same = old.iter().find(|pipeline| pipeline.stem == seen.run.pipeline);
    let same = same.and_then(|pipeline| pipeline.stages.iter().find(|s| s.name == stage.base));
    review.image_before = same.and_then(|stage| stage.container.clone());
    if !review.definitions.is_empty() {
        let (new, notes) = policies::pipelines(context, own, facts, "this commit's").await;
        let mut changes = pipelines_spec::diff::changes(&old, &new);
        changes.sort_by_key(|change| !change.gains);
        review.changes = changes.iter().map(ToString::to_string).collect();
        review.unknown.extend(notes);
    }
}

/// Each file that differs, as `diff -u` shows it.
fn differences(before: &Sources, after: &Sources) -> Vec<FileDiff> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |sources: &Sources, path: &String| sources.get(path).cloned().unwrap_or_default();
    let differs = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let one = |path: &String| {
        let (old, new) = (text(before, path), text(after, path));
        let mut diff = TextDiff::from_lines(&old, &new).unified_diff().context_radius(3).to_string();
        if diff.len() > DIFF_BYTES {
            diff.truncate(diff.floor_char_boundary(DIFF_BYTES));
            diff.push_str("\n… (more differs than is shown)\n");
        }
        FileDiff { path: path.clone(), diff }
    };
    differs.map(one).collect()
}
