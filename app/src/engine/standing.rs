//! What follows when something at the forge comes or goes: installations, repositories, branches, merge groups. Each answers
//! the sentence that is kept with the delivery.

use crate::actions::cancel::cancel;
use crate::context::Context;
use crate::engine::advance::{self, note};
use crate::forge::{InstallationEvent, RepoFacts, Standing};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;

/// An installation was created, removed, suspended, given back, or reaches other repositories. Running jobs go on and end;
/// what cannot be told meanwhile says why and is told once it can be. What waits for a runner waits on where the installation
/// is suspended, and ends where it was removed.
pub(super) async fn installation(
    context: &Context,
    told: &InstallationEvent,
    now: Timestamp,
) -> Result<String, advance::Error> {
    let mut tx = context.store.begin().await?;
    tx.save_installation(told.id, &told.account, told.suspended, told.removed, now).await?;
    for repo in &told.repositories {
        let repo = tx.save_repo(repo, now).await?;
        tx.enable_repo(&repo.id, true, now).await?;
    }
    for repo in &told.lost {
        let repo = tx.save_repo(repo, now).await?;
        tx.enable_repo(&repo.id, false, now).await?;
    }
    if !told.suspended && !told.removed {
        tx.reports_go_on(None, Some(told.id), now).await?;
        tx.jobs_go_on(told.id, now).await?;
    }
    let idle = if told.removed { tx.idle_runs_of_installation(told.id).await? } else { vec![] };
    tx.commit().await?;
    end_all(context, &idle, "The App's installation was removed.", now).await?;
    let (gained, lost) = (told.repositories.len(), told.lost.len());
    let standing = match (told.removed, told.suspended) {
        (true, _) => "was removed",
        (_, true) => "is suspended",
        (false, false) => "is active",
    };
    Ok(format!("installation {} {standing}; {gained} repositories gained, {lost} lost", told.id))
}

/// A repository was archived, deleted, or given back.
pub(super) async fn repository(
    context: &Context,
    facts: &RepoFacts,
    standing: Standing,
    now: Timestamp,
) -> Result<String, advance::Error> {
    let mut tx = context.store.begin().await?;
    let repo = tx.save_repo(facts, now).await?;
    tx.set_standing(&repo.id, standing, now).await?;
    let open = match standing {
        Standing::Deleted => tx.open_runs_of_repo(&repo.id).await?,
        Standing::Archived => vec![],
        Standing::Active => {
            tx.reports_go_on(Some(&repo.id), None, now).await?;
            vec![]
        }
    };
    tx.commit().await?;
    end_all(context, &open, "The repository was deleted.", now).await?;
    Ok(match standing {
        Standing::Deleted => format!("the repository was deleted; {} runs were ended", open.len()),
        Standing::Archived => "the repository is archived: its events start nothing".to_owned(),
        Standing::Active => "the repository can be used".to_owned(),
    })
}

/// A branch or tag was deleted: its runs go on with the commit they have, and say so.
pub(super) async fn ref_deleted(
    context: &Context,
    facts: &RepoFacts,
    git_ref: &str,
    now: Timestamp,
) -> Result<String, advance::Error> {
    let mut tx = context.store.begin().await?;
    let repo = tx.save_repo(facts, now).await?;
    let open = tx.open_runs_of_ref(&repo.id, git_ref).await?;
    let name = git_ref.strip_prefix("refs/heads/").map(|name| format!("branch '{name}'"));
    let name = name.or_else(|| git_ref.strip_prefix("refs/tags/").map(|name| format!("tag '{name}'")));
    let name = name.unwrap_or_else(|| format!("ref '{git_ref}'"));
    let said = note("ref_deleted", format!("The {name} was deleted. The run goes on with its commit."));
    for run in &open {
        tx.insert_notes(run, std::slice::from_ref(&said), now).await?;
    }
    tx.commit().await?;
    Ok(format!("{name} was deleted; {} open runs go on with their commits", open.len()))
}

/// A merge queue dropped a group: nobody waits for its runs any more.
pub(super) async fn merge_group_destroyed(
    context: &Context,
    facts: &RepoFacts,
    sha: &str,
    reason: &str,
    now: Timestamp,
) -> Result<String, advance::Error> {
    let mut tx = context.store.begin().await?;
    let repo = tx.save_repo(facts, now).await?;
    let open = tx.open_runs_of_merge_group(&repo.id, sha).await?;
    tx.commit().await?;
    end_all(context, &open, &format!("The merge group is no more: {reason}."), now).await?;
    Ok(format!("the merge group is no more ({reason}); {} runs were ended", open.len()))
}

/// Ends runs that are not over.
pub(super) async fn end_all(
    context: &Context,
    runs: &[RunId],
    why: &str,
    now: Timestamp,
) -> Result<(), advance::Error> {
    for run in runs {
        match cancel(context, run, why, now).await {
            // One that ended a moment ago needs no end.
            Ok(()) | Err(advance::Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
