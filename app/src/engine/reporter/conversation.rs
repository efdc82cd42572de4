//! What stands below a pull request: Rivet's one comment, which is looked for before it is written anew, and receipts.

use super::tell::{Shown, Trouble, remember};
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
) -> Result<Shown, Trouble> {
    if let Some(id) = report.forge_id {
        let answer = forge.edit_comment(repo, id, &comment.body).await;
        if let Err(ForgeError::NotFound(_)) = &answer {
            // Somebody took it away. The next try writes it anew.
            remember(context, report, None).await?;
        }
        answer?;
        return Ok(Shown { id, notes: 0 });
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
                return Ok(Shown { id: found.id, notes: 0 });
            }
        }
    }
    let id = forge.post_comment(repo, comment.pull_request, &comment.body).await?;
    Ok(Shown { id, notes: 0 })
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
