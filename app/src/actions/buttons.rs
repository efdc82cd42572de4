//! Buttons of check runs, and re-runs asked for on the forge's pages. Who pressed is asked of the forge as for a comment; a
//! button holds for the commit and the attempt it was shown with, and never raises trust. What came of it is a decision that
//! people can read; a press that is delivered again does nothing twice.

use crate::actions::approve::{Decision, approve};
use crate::actions::comments::{Made, Trouble};
use crate::actions::people::{self, Person};
use crate::actions::reviewers::Decider;
use crate::actions::{cancel, rerun, retry};
use crate::context::Context;
use crate::engine::advance::Error;
use crate::forge::people::{Account, Permission};
use crate::model::ids::{DeliveryId, RunId};
use crate::model::run::Run;
use crate::model::stage::Stage;
use crate::model::state::{RunState, StageState};
use crate::model::time::Timestamp;
use crate::store::commands::{Aim, CommandKey, CommandOutcome, CommandRow, NewCommand};
use crate::store::decisions::DecisionOutcome;
use crate::store::repos::Repo;
use serde_json::json;
use std::collections::BTreeSet;

/// What a re-run is called where buttons have their identifier.
const REREQUESTED: &str = "rerequested";

/// What was pressed.
pub struct Press<'a> {
    /// Where.
    pub repo: &'a Repo,
    /// Which delivery tells.
    pub delivery: &'a DeliveryId,
    /// Who, as the delivery says.
    pub actor: &'a Account,
    /// Now.
    pub now: Timestamp,
}

/// What a check run's `external_id` names.
struct Shown {
    run: Run,
    stage: Stage,
}

/// A button, or the re-run of one check: `action` is the button's identifier, or `rerequested`; `sha` the commit the check
/// stands on.
pub async fn press(
    context: &Context,
    press: &Press<'_>,
    external_id: &str,
    sha: Option<&str>,
    action: &str,
) -> Result<Made, Trouble> {
    let begun = context.store.read().await?.command(&key(press)).await?;
    let shown = match shown(context, press.repo, external_id, sha, begun.is_some()).await? {
        Ok(shown) => shown,
        Err(why) => return noted(context, press, None, action, refused(press, None, action, &why)).await,
    };
    let person = match person(context, press).await? {
        Ok(person) => person,
        Err(why) => {
            let made = refused(press, Some(&shown.run), action, &why);
            return noted(context, press, Some(&shown.run), action, made).await;
        }
    };
    let (row, fresh) = begin(context, press, &shown.run, action).await?;
    if let Some(outcome) = row.outcome {
        return Ok(made(&shown.run, press, action, outcome, row.answer.as_deref()));
    }
    let act = Act { context, press, person: &person, fresh: fresh || row.aims.is_none(), row: &row };
    let answer = act.perform(&shown, action).await;
    let (outcome, why) = match answer {
        Ok(()) => (CommandOutcome::Done, None),
        Err(Error::Refused(why)) => (CommandOutcome::Refused, Some(why)),
        Err(error) => return Err(Trouble::Advance(error)),
    };
    end(context, press, outcome, why.as_deref()).await?;
    noted(context, press, Some(&shown.run), action, made(&shown.run, press, action, outcome, why.as_deref())).await
}

/// The re-run of a whole commit: what failed of the newest run of each pipeline that the commit shows is tried again.
/// `app_id` is the App the suite belongs to, `ours` the one we are.
pub async fn rerun_suite(
    context: &Context,
    press: &Press<'_>,
    sha: &str,
    (app_id, ours): (Option<i64>, Option<i64>),
) -> Result<Vec<Made>, Trouble> {
    if app_id.is_none() || app_id != ours {
        let made = refused(press, None, REREQUESTED, "the check suite is another App's");
        return Ok(vec![Made { sha: Some(sha.to_owned()), outcome: DecisionOutcome::Skip, ..made }]);
    }
    let person = match person(context, press).await? {
        Ok(person) => person,
        Err(why) => {
            let made = Made { sha: Some(sha.to_owned()), ..refused(press, None, REREQUESTED, &why) };
            return Ok(vec![noted(context, press, None, REREQUESTED, made).await?]);
        }
    };
    let failed = failed_on(context, press.repo, sha).await?;
    let Some(first) = failed.first() else {
        let made = refused(press, None, REREQUESTED, "nothing of this commit failed: there is nothing to try again");
        return Ok(vec![Made { sha: Some(sha.to_owned()), outcome: DecisionOutcome::Skip, ..made }]);
    };
    let (row, fresh) = begin(context, press, first, REREQUESTED).await?;
    let act = Act { context, press, person: &person, fresh: fresh || row.aims.is_none(), row: &row };
    let mut all = vec![];
    for aim in act.aims(&failed).await? {
        let run = context.store.read().await?.run(&aim.run).await?;
        let (outcome, why) = match act.retry(&run, &aim, None).await {
            Ok(()) => (CommandOutcome::Done, None),
            Err(Error::Refused(why)) => (CommandOutcome::Refused, Some(why)),
            Err(error) => return Err(Trouble::Advance(error)),
        };
        let made = made(&run, press, REREQUESTED, outcome, why.as_deref());
        all.push(noted(context, press, Some(&run), REREQUESTED, Made { sha: Some(sha.to_owned()), ..made }).await?);
    }
    end(context, press, CommandOutcome::Done, None).await?;
    Ok(all)
}

/// The newest run of each pipeline on a commit, where it is over and something in it can be tried again.
async fn failed_on(context: &Context, repo: &Repo, sha: &str) -> Result<Vec<Run>, Trouble> {
    let mut tx = context.store.read().await?;
    let mut seen = BTreeSet::new();
    let mut failed = vec![];
    for id in tx.runs_shown_on(&repo.id, sha).await? {
        let run = tx.run(&id).await?;
        let newest = seen.insert(run.pipeline.clone());
        if newest && matches!(run.state, RunState::Failed | RunState::Cancelled) {
            failed.push(run);
        }
    }
    Ok(failed)
}

/// What the check stands for, or why the button is not followed. A press that was `begun` may have made a new attempt.
async fn shown(
    context: &Context,
    repo: &Repo,
    external_id: &str,
    sha: Option<&str>,
    begun: bool,
) -> Result<Result<Shown, String>, Trouble> {
    // A leg's name may have colons of its own.
    let parts = external_id.split_once(':').and_then(|(run, rest)| {
        let (stage, attempt) = rest.rsplit_once(':')?;
        Some((RunId::from(run), stage, attempt.parse::<i64>().ok()?))
    });
    let Some((run, name, attempt)) = parts else {
        return Ok(Err("this check stands for no stage; the next push looks at the definitions again".to_owned()));
    };
    let mut tx = context.store.read().await?;
    let run = match tx.run(&run).await {
        // An id of another repository's run is as unknown here as one of nothing.
        Ok(run) if run.repo_id == repo.id => run,
        Ok(_) | Err(crate::store::Error::NotFound) => {
            return Ok(Err("there is no such run in this repository".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    if sha.is_some_and(|sha| sha != run.head()) {
        return Ok(Err(format!("the button was on another commit than run {}'s", run.number)));
    }
    let Some(stage) = tx.stages(&run.id).await?.into_iter().find(|stage| stage.name == name) else {
        return Ok(Err(format!("run {} has no such stage", run.number)));
    };
    if attempt < stage.attempt.max(1) && !begun {
        return Ok(Err(format!(
            "the button was of attempt {attempt} of stage '{name}' in run {}, which is at attempt {} by now",
            run.number, stage.attempt
        )));
    }
    Ok(Ok(Shown { run, stage }))
}

/// Who pressed, if the forge vouches for them and they may write.
async fn person(context: &Context, press: &Press<'_>) -> Result<Result<Person, String>, Trouble> {
    let actor = press.actor;
    if actor.is_bot || actor.id <= 0 {
        return Ok(Err(format!("{} is nobody who may press a button", actor.login)));
    }
    let forge = context.forges.of(press.repo.forge)?;
    Ok(match people::ask(&forge, &press.repo.facts(), actor).await {
        Ok(person) if person.may(Permission::Write) => Ok(person),
        Ok(_) => Err(format!("{} may not write in {}", actor.login, press.repo.full_name())),
        Err(error) => Err(error.to_string()),
    })
}

fn refused(press: &Press<'_>, run: Option<&Run>, action: &str, why: &str) -> Made {
    let asked = match action {
        REREQUESTED => "a re-run".to_owned(),
        button => format!("'{button}'"),
    };
    let place = run.map(|run| format!(" in run {}", run.number)).unwrap_or_default();
    Made {
        outcome: DecisionOutcome::Refused,
        reason: format!("{} asked for {asked}{place}: {why}", press.actor.login),
        sha: run.map(|run| run.head().to_owned()),
        pipeline: run.map(|run| run.pipeline.clone()),
        run: run.map(|run| run.id.clone()),
    }
}

fn made(run: &Run, press: &Press<'_>, action: &str, outcome: CommandOutcome, why: Option<&str>) -> Made {
    match outcome {
        CommandOutcome::Done | CommandOutcome::Answered => {
            Made { outcome: DecisionOutcome::Done, ..refused(press, Some(run), action, "done") }
        }
        CommandOutcome::Refused | CommandOutcome::Unknown | CommandOutcome::Stranger => {
            refused(press, Some(run), action, why.unwrap_or("refused"))
        }
    }
}

/// Writes a line of the audit log.
async fn noted(
    context: &Context,
    press: &Press<'_>,
    run: Option<&Run>,
    action: &str,
    made: Made,
) -> Result<Made, Trouble> {
    let who = format!("{} ({} {})", press.actor.login, press.repo.forge, press.actor.id);
    let details = json!({ "button": action, "run": run.map(|run| run.number), "outcome": made.reason });
    let mut tx = context.store.begin().await?;
    tx.audit(&who, &format!("button.{}", made.outcome), &press.repo.full_name(), &details, press.now).await?;
    tx.commit().await?;
    Ok(made)
}

fn key(press: &Press<'_>) -> CommandKey {
    CommandKey { repo_id: press.repo.id.clone(), source: format!("delivery:{}", press.delivery), position: 0 }
}

async fn begin(context: &Context, press: &Press<'_>, run: &Run, action: &str) -> Result<(CommandRow, bool), Trouble> {
    let new = NewCommand {
        key: key(press),
        pull_request: run.pull_request,
        comment_id: None,
        actor: press.actor.login.clone(),
        actor_forge_id: press.actor.id,
        line: action.to_owned(),
    };
    let mut tx = context.store.begin().await?;
    let begun = tx.begin_command(&new, press.now).await?;
    tx.commit().await?;
    Ok(begun)
}

async fn end(context: &Context, press: &Press<'_>, outcome: CommandOutcome, why: Option<&str>) -> Result<(), Trouble> {
    let mut tx = context.store.begin().await?;
    tx.end_command(&key(press), outcome, why, press.now).await?;
    tx.commit().await?;
    Ok(())
}

/// One press by somebody who may.
struct Act<'a> {
    context: &'a Context,
    press: &'a Press<'a>,
    person: &'a Person,
    /// Whether nobody began it before.
    fresh: bool,
    row: &'a CommandRow,
}

impl Act<'_> {
    async fn perform(&self, shown: &Shown, action: &str) -> Result<(), Error> {
        match action {
            "approve" => self.decide(shown, true).await,
            "reject" => self.decide(shown, false).await,
            "cancel" => self.cancel(&shown.run).await,
            "retry" => self.retry_one(&shown.run, None).await,
            REREQUESTED => self.again(shown).await,
            other => Err(Error::Refused(format!("there is no button '{other}'"))),
        }
    }

    /// Binds to the commit that the check is shown on: that is what was looked at.
    async fn decide(&self, shown: &Shown, approve_it: bool) -> Result<(), Error> {
        let decision = Decision {
            stage: Some(shown.stage.name.clone()),
            approve: approve_it,
            by: Decider::Person(self.person.clone()),
            sha: Some(shown.run.head().to_owned()),
            said_at: None,
            comment: None,
            via: "check".to_owned(),
        };
        approve(self.context, &shown.run.id, &decision, self.press.now).await
    }

    async fn cancel(&self, run: &Run) -> Result<(), Error> {
        let reason = format!("{} cancelled it with a button.", self.person.account().login);
        match cancel::cancel(self.context, &run.id, &reason, self.press.now).await {
            // It was begun before, and has ended what it was to end.
            Err(Error::Refused(_)) if !self.fresh => Ok(()),
            answer => answer,
        }
    }

    async fn retry_one(&self, run: &Run, stage: Option<&str>) -> Result<(), Error> {
        let aims = self.aims(std::slice::from_ref(run)).await.map_err(store_error)?;
        match aims.first() {
            Some(aim) => self.retry(run, aim, stage).await,
            None => Err(Error::NotFound),
        }
    }

    /// A run that changed since the press was first worked on was retried by it.
    async fn retry(&self, run: &Run, aim: &Aim, stage: Option<&str>) -> Result<(), Error> {
        if !self.fresh && run.version != aim.version {
            return Ok(());
        }
        retry::retry(self.context, &run.id, stage, &self.person.account().login, self.press.now).await
    }

    async fn aims(&self, runs: &[Run]) -> Result<Vec<Aim>, Trouble> {
        if let Some(aims) = &self.row.aims {
            return Ok(aims.0.clone());
        }
        let aims: Vec<Aim> = runs.iter().map(|run| Aim { run: run.id.clone(), version: run.version }).collect();
        let mut tx = self.context.store.begin().await?;
        tx.aim_command(&key(self.press), &aims).await?;
        tx.commit().await?;
        Ok(aims)
    }

    /// The stage once more: in its run where it did not succeed there. What succeeded stays as it is, so a stage that did
    /// is run by running everything again.
    async fn again(&self, shown: &Shown) -> Result<(), Error> {
        let run = &shown.run;
        if !run.state.is_over() && self.row.aims.is_none() {
            return Err(Error::Refused(format!("it is still {}", run.state)));
        }
        if self.row.aims.is_some() || retry::may_reopen(&shown.stage) {
            return self.retry_one(run, Some(&shown.stage.name)).await;
        }
        if !matches!(shown.stage.state, StageState::Succeeded | StageState::Skipped) {
            return Err(Error::Refused(format!("stage '{}' is {}", shown.stage.name, shown.stage.state)));
        }
        let key = format!("rerun:{}", self.press.delivery);
        rerun::rerun_once(self.context, &run.id, &self.person.account().login, &key, self.press.now).await.map(|_| ())
    }
}

fn store_error(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Store(error) => Error::Store(error),
        Trouble::Advance(error) => error,
        Trouble::Forge(error) => Error::Refused(error.to_string()),
    }
}
