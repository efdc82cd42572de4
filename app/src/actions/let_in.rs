//! `/ok-to-test SHA`: somebody who may write lets what a stranger wrote run: exactly the commit they reviewed, exactly the
//! plan it came to, and nothing that follows. It gets no secrets and no host executor even so.

use crate::actions::approve::{
    Decision, LEAST_DIGITS, Seen, already, is_long_enough, not_the_head, row, still_stands, unanswered,
};
use crate::actions::reviewers::Decider;
use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::model::ids::RunId;
use crate::model::run::Run;
use crate::model::time::Timestamp;
use crate::store::repos::Repo;
use pipelines_spec::protocol::Trust;

/// Lets every run of a pull request in that was made of the commit `sha`, and answers which.
pub struct LetIn<'a> {
    /// Where.
    pub repo: &'a Repo,
    /// The pull request.
    pub number: i64,
    /// The commit that was reviewed, as it was typed; `None`: nothing was.
    pub sha: Option<&'a str>,
    /// Who says so.
    pub by: &'a Decider,
    /// `comment`, `check`, `page`, `api`.
    pub via: &'a str,
}

/// Does so. [`Error::Refused`] says what is wrong, in words for the one who asked.
pub async fn let_in(context: &Context, asked: &LetIn<'_>, now: Timestamp) -> Result<Vec<RunId>, Error> {
    may_write(asked.by, asked.repo)?;
    let head = head_of(context, asked.repo, asked.number).await?;
    is_head(asked.sha, &head)?;
    let runs = {
        let mut tx = context.store.read().await?;
        tx.runs_of_open_pull_request(&asked.repo.id, asked.number).await?
    };
    let waits = |run: &&Run| run.trust.0 != Trust::Trusted && run.head() == head && run.outdated.is_none();
    let mut let_in = vec![];
    let mut refused = None;
    for run in runs.iter().filter(waits) {
        match admit(context, &run.id, asked.by, None, asked.via, now).await {
            Ok(()) => let_in.push(run.id.clone()),
            // Of several runs some may have been let in before; one that ended meanwhile needs nothing.
            Err(Error::Refused(why)) => refused = Some(Error::Refused(why)),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if let_in.is_empty() => Err(error),
        None if let_in.is_empty() => Err(Error::Refused("Nothing of this commit waits to be let in.".to_owned())),
        Some(_) | None => Ok(let_in),
    }
}

/// `/ok-to-test cancel`: nothing more of the pull request is claimed until somebody lets it in again. Answers which runs.
pub async fn shut_out(
    context: &Context,
    repo: &Repo,
    number: i64,
    by: &Decider,
    now: Timestamp,
) -> Result<Vec<RunId>, Error> {
    may_write(by, repo)?;
    let runs = {
        let mut tx = context.store.read().await?;
        tx.runs_of_open_pull_request(&repo.id, number).await?
    };
    let mut shut = vec![];
    for run in runs.iter().filter(|run| run.trust.0 != Trust::Trusted) {
        let taken = advance(context, &run.id, now, |graph| {
            let mut taken = false;
            for approval in graph.approvals.iter_mut().filter(|a| a.stage_id.is_none() && a.voided_at.is_none()) {
                approval.void(format!("{} took it back", by.name()), now);
                taken = true;
            }
            if taken {
                graph.note(None, "revoked", format!("{} took the word back that let it run.", by.name()));
            }
            Ok(taken)
        })
        .await?;
        if taken {
            shut.push(run.id.clone());
        }
    }
    if shut.is_empty() {
        return Err(Error::Refused("Nothing of this pull request was let in.".to_owned()));
    }
    Ok(shut)
}

/// A decision about one run that is not let in: by a button, on its page, over the API.
pub(crate) async fn decide(context: &Context, seen: &Seen, decision: &Decision, now: Timestamp) -> Result<(), Error> {
    let run = &seen.run;
    if !decision.approve {
        return turn_away(context, seen, decision, now).await;
    }
    may_write(&decision.by, &seen.repo)?;
    // A page of the run may name the commit that is built as well.
    if !decision.sha.as_ref().is_some_and(|sha| sha.len() >= LEAST_DIGITS && run.sha.starts_with(sha.as_str())) {
        is_head(decision.sha.as_deref(), run.head())?;
    }
    if run.facts.0.pull_request.is_none() {
        return Err(Error::Refused("Only what belongs to a pull request can be let in.".to_owned()));
    }
    still_stands(seen).await?;
    admit(context, &run.id, &decision.by, decision.comment.as_deref(), &decision.via, now).await
}

async fn turn_away(context: &Context, seen: &Seen, decision: &Decision, now: Timestamp) -> Result<(), Error> {
    if !decision.by.may_stop() {
        return Err(Error::Refused(format!("{} may not write in {}.", decision.by.name(), seen.repo.full_name())));
    }
    advance(context, &seen.run.id, now, |graph| {
        if graph.run.state.is_over() {
            return Err(Error::Refused("Nothing in this run waits for approval.".to_owned()));
        }
        let row = row(graph, None, false, &decision.by, decision.comment.as_deref(), &decision.via);
        let reason = format!("{} did not let this commit run.", row.actor);
        graph.approvals.push(row);
        graph.note(None, "rejected", reason.clone());
        graph.run.cancel_requested = true;
        graph.run.cancel_reason = Some(reason);
        graph.run.dirty = true;
        Ok(())
    })
    .await
}

async fn admit(
    context: &Context,
    run: &RunId,
    by: &Decider,
    comment: Option<&str>,
    via: &str,
    now: Timestamp,
) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        if graph.run.state.is_over() || graph.run.cancel_requested {
            return Err(Error::Refused(format!("Run #{} is over: run it again first.", graph.run.number)));
        }
        if let Some(outdated) = &graph.run.outdated {
            return Err(Error::Refused(format!("{outdated} Review the new commits, then approve those.")));
        }
        if let Some(earlier) = graph.yeses(None).next() {
            return Err(already(earlier));
        }
        let row = row(graph, None, true, by, comment, via);
        let message = format!("{} reviewed {} and lets it run.", row.actor, graph.run.short_head());
        graph.approvals.push(row);
        graph.note(None, "let_in", message);
        Ok(())
    })
    .await
}

fn may_write(by: &Decider, repo: &Repo) -> Result<(), Error> {
    if by.may_write() {
        return Ok(());
    }
    Err(Error::Refused(format!("{} may not write in {}.", by.name(), repo.full_name())))
}

/// The head of an open pull request, asked of the forge: what is here may be older.
async fn head_of(context: &Context, repo: &Repo, number: i64) -> Result<String, Error> {
    let asked = match context.forges.of(repo.forge) {
        Ok(forge) => forge.pull_request(&repo.facts(), number).await,
        Err(error) => Err(error),
    };
    let pull = asked.map_err(|error| unanswered(&format!("the head of pull request {number} ({error})")))?;
    if !pull.open {
        return Err(Error::Refused("This pull request is closed.".to_owned()));
    }
    Ok(pull.facts.head_sha)
}

fn is_head(sha: Option<&str>, head: &str) -> Result<(), Error> {
    let Some(sha) = sha else {
        let short = head.get(..12).unwrap_or(head);
        return Err(Error::Refused(format!(
            "This pull request comes from a fork. Name the commit you reviewed: `/ok-to-test {short}`."
        )));
    };
    is_long_enough(sha)?;
    if head.starts_with(&sha.to_ascii_lowercase()) {
        return Ok(());
    }
    Err(Error::Refused(not_the_head(sha, head)))
}
