//! A pull request moved on: what was agreed to about its older commits, or for another base, is void.

use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::forge::pulls::PullRequest;
use crate::model::ids::RepoId;
use crate::model::run::Run;
use crate::model::time::Timestamp;
use crate::store;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::PullRequestFacts;

/// Open runs of the pull request that were made from another commit, or for another base, than `facts` tell.
pub async fn others(context: &Context, repo: &RepoId, facts: &PullRequestFacts) -> store::Result<Vec<Run>> {
    let mut tx = context.store.read().await?;
    let runs = tx.runs_of_open_pull_request(repo, facts.number).await?;
    Ok(runs.into_iter().filter(|run| run.outdated.is_none() && moved(run, facts).is_some()).collect())
}

/// Takes the effect of every approval away from those of `runs` that the pull request, as the forge has it now, is not any
/// more. Runs of strangers end: nobody can let them in again.
pub async fn outdate(context: &Context, runs: &[Run], pull: &PullRequest, now: Timestamp) -> Result<(), Error> {
    for run in runs {
        let Some(reason) = moved(run, &pull.facts) else { continue };
        advance(context, &run.id, now, |graph| {
            if graph.run.state.is_over() || graph.run.outdated.is_some() {
                return Ok(());
            }
            for approval in &mut graph.approvals {
                approval.void(&*reason, now);
            }
            graph.run.outdated = Some(reason.clone());
            graph.run.dirty = true;
            graph.note(None, "outdated", reason.clone());
            if graph.run.trust.0 != Trust::Trusted && !graph.run.cancel_requested {
                graph.run.cancel_requested = true;
                graph.run.cancel_reason = Some(reason.clone());
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// What changed since the run was made, in one sentence.
fn moved(run: &Run, facts: &PullRequestFacts) -> Option<String> {
    let made = run.facts.0.pull_request.as_ref()?;
    if made.head_sha != facts.head_sha {
        let short = |sha: &str| sha.get(..12).unwrap_or(sha).to_owned();
        let (new, old) = (short(&facts.head_sha), short(&made.head_sha));
        return Some(format!("Pull request {} has the head {new} now, not {old}.", facts.number));
    }
    if made.base != facts.base {
        return Some(format!("Pull request {} goes into {} now, not into {}.", facts.number, facts.base, made.base));
    }
    None
}
