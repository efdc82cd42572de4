//! What stands below a pull request: Rivet's one comment, which is looked for before it is written anew, and receipts.

use super::tell::{Trouble, remember};
use crate::context::Context;
use crate::forge::comments::Reaction;
use crate::forge::{Forge, ForgeError, RepoFacts};
use crate::store::reports::{LivingComment, Report};

/// Makes the one comment say what it should.
pub(super) async fn tell_comment(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    report: &Report,
    comment: &LivingComment,
) -> Result<(), Trouble> {
    if let Some(id) = report.forge_id {
        return match forge.edit_comment(repo, id, &comment.body).await {
            Err(error @ ForgeError::NotFound(_)) => {
                // Somebody took it away. The next try writes it anew.
                remember(context, report, None, 0).await?;
                Err(error.into())
            }
            answer => Ok(answer?),
        };
    }
    // Always, not only after a lost answer: a database that was put back from a copy does not know of it either.
    let all = forge.comments(repo, comment.pull_request).await?;
    let ours = all.iter().filter(|found| found.author.is_bot && found.body.starts_with(LivingComment::MARKER));
    for found in ours {
        match forge.edit_comment(repo, found.id, &comment.body).await {
            // Another bot's, which quotes ours: it is not for us to change.
            Err(ForgeError::Refused(_) | ForgeError::NotFound(_)) => {}
            answer => {
                answer?;
                remember(context, report, Some(found.id), 0).await?;
                return Ok(());
            }
        }
    }
    let id = forge.post_comment(repo, comment.pull_request, &comment.body).await?;
    remember(context, report, Some(id), 0).await?;
    Ok(())
}

/// Leaves a receipt. On a comment that is gone there is nothing to leave it on.
pub(super) async fn tell_receipt(
    forge: &Forge,
    repo: &RepoFacts,
    comment: i64,
    reaction: Reaction,
) -> Result<(), Trouble> {
    match forge.react(repo, comment, reaction).await {
        Err(ForgeError::NotFound(_)) => Ok(()),
        answer => Ok(answer?),
    }
}
