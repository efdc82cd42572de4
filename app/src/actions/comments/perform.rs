//! One function for each command: it finds what is meant on this pull request, calls the one verb, and says what came of
//! it. Nothing is decided here about who may what at a gate: the verbs do.

use super::targets::{self, Target};
use super::{MINUTES, MOST_COMMANDS, Said, Scene, Trouble, Turn, gates, help, start, texts};
use crate::actions::rollback::{self, Wish};
use crate::actions::{cancel, retry};
use crate::engine::advance::Error;
use crate::forge::people::Permission;
use crate::model::command::{Command, Which};
use crate::model::ids::RunId;
use crate::model::run::Run;
use crate::store::commands::{Aim, CommandOutcome};
use pipelines_spec::suggest::nearest;

/// Does what one line says. `number` counts the commands of the same person lately, from 0.
pub(super) async fn perform(scene: &Scene<'_>, turn: &Turn<'_>, number: i64) -> Result<Said, Trouble> {
    let own = turn.line.own_word().is_some();
    // Rivet's own commands are for those who may write; whoever else says them gets no answer that others would read.
    if !own && !scene.person.may(Permission::Write) {
        return Ok(Said::silent(CommandOutcome::Stranger));
    }
    if number >= MOST_COMMANDS {
        return Ok(match scene.person.may(Permission::Write) {
            true => Said::refused(texts::too_often(MOST_COMMANDS, MINUTES)),
            false => Said::silent(CommandOutcome::Stranger),
        });
    }
    if !scene.pull.open {
        return Ok(match scene.person.may(Permission::Write) {
            true => Said::refused(texts::closed()),
            false => Said::silent(CommandOutcome::Stranger),
        });
    }
    let command = match &turn.line.meaning {
        Ok(command) => command,
        Err(misuse) => return Ok(Said::refused(texts::misuse(misuse))),
    };
    match command {
        Command::Approve { stage, sha } => gates::approve(scene, turn, stage.as_deref(), sha.as_deref()).await,
        Command::Unapprove { stage } => gates::unapprove(scene, stage.as_deref()).await,
        Command::Reject { text } => gates::reject(scene, turn, text).await,
        Command::Retry(which) => retry(scene, turn, which.as_ref()).await,
        Command::Cancel(which) => cancel(scene, turn, which.as_ref()).await,
        Command::Run { pipeline, inputs } => start::run(scene, turn, pipeline, inputs).await,
        Command::LetIn { sha } => gates::consent(scene, turn, sha.as_deref()).await,
        Command::ShutOut => gates::shut_out(scene, turn).await,
        Command::Rollback { environment, to } => rollback(scene, turn, environment, *to).await,
        Command::Help => Ok(Said::of(CommandOutcome::Answered, Some(help::help(scene).await?))),
        Command::Own { word, inputs } => start::own(scene, turn, word, inputs).await,
    }
}

/// What a verb answered. A refusal is read by the one who asked; everything else is tried again.
pub(super) fn said(answer: Result<(), Error>, turn: &Turn<'_>) -> Result<Said, Trouble> {
    match answer {
        Ok(()) => Ok(Said::done()),
        Err(Error::Refused(why)) => Ok(Said::refused(texts::of_verb(&why))),
        Err(error) => {
            tracing::warn!(command = %turn.key.source, %error, "a command of {} is tried again: {error}", turn.key.source);
            Err(Trouble::Advance(error))
        }
    }
}

/// What a retry is about, decided once: a run that changed since then was retried already.
async fn aims(scene: &Scene<'_>, turn: &Turn<'_>, runs: &[&Run]) -> Result<Vec<Aim>, Trouble> {
    if let Some(aims) = &turn.row.aims {
        return Ok(aims.0.clone());
    }
    let aims: Vec<Aim> = runs.iter().map(|run| Aim { run: run.id.clone(), version: run.version }).collect();
    let mut tx = scene.context.store.begin().await?;
    tx.aim_command(turn.key, &aims).await?;
    tx.commit().await?;
    Ok(aims)
}

async fn retry(scene: &Scene<'_>, turn: &Turn<'_>, which: Option<&Which>) -> Result<Said, Trouble> {
    let all = targets::all(scene).await?;
    let targets = targets::current(scene).await?;
    let (runs, stage): (Vec<&Run>, Option<&str>) = match which {
        _ if turn.row.aims.is_some() => (vec![], stage_of(&targets, which)),
        Some(Which::Run(number)) => match all.iter().find(|run| run.number == *number) {
            None => return Ok(Said::refused(texts::not_of_this(*number))),
            Some(run) => (vec![run], None),
        },
        Some(Which::Named(name)) => (holding(&targets, name), stage_of(&targets, which)),
        None => (targets.iter().map(|target| &target.run).filter(|run| has_failed(&targets, run)).collect(), None),
    };
    if turn.row.aims.is_none()
        && let Some(why) = cannot_retry(&targets, &runs, which)
    {
        return Ok(Said::refused(why));
    }
    let mut refused = None;
    let mut done = false;
    for aim in aims(scene, turn, &runs).await? {
        let now_at = scene.context.store.read().await?.run(&aim.run).await?.version;
        if !turn.fresh && now_at != aim.version {
            done = true;
            continue;
        }
        let login = &scene.person.account().login;
        let stage = stage.map(|name| name.rsplit_once('/').map_or(name, |(_, name)| name));
        match retry::retry(scene.context, &aim.run, stage, login, scene.now).await {
            Ok(()) => done = true,
            Err(Error::Refused(why)) => refused = Some(why),
            Err(error) => return Err(Trouble::Advance(error)),
        }
    }
    Ok(match (done, refused) {
        (false, Some(why)) => Said::refused(texts::of_verb(&why)),
        (false, None) => Said::refused(texts::nothing_to_retry()),
        (true, _) => Said::done(),
    })
}

/// The name, if it is a stage's and not a pipeline's.
fn stage_of<'a>(targets: &[Target], which: Option<&'a Which>) -> Option<&'a str> {
    match which {
        Some(Which::Named(name)) if targets::has_stage(targets, name) => Some(name),
        Some(Which::Named(_) | Which::Run(_)) | None => None,
    }
}

/// The runs that have a stage of this name, or are of a pipeline of this name.
fn holding<'a>(targets: &'a [Target], name: &str) -> Vec<&'a Run> {
    let stages = targets.iter().filter(|t| t.stages.iter().any(|stage| targets::is_named(&t.run, stage, name)));
    let found: Vec<&Run> = stages.map(|target| &target.run).collect();
    if !found.is_empty() {
        return found;
    }
    targets.iter().map(|target| &target.run).filter(|run| run.pipeline == name).collect()
}

fn has_failed(targets: &[Target], run: &Run) -> bool {
    let stages = targets.iter().find(|target| target.run.id == run.id).map(|target| &target.stages);
    run.state.is_over() && stages.is_some_and(|stages| stages.iter().any(retry::may_reopen))
}

/// Why none of the runs can be retried, where that is seen without trying.
fn cannot_retry(targets: &[Target], runs: &[&Run], which: Option<&Which>) -> Option<String> {
    let open = |run: &&&Run| !run.state.is_over();
    match which {
        None if !runs.is_empty() => None,
        // Nothing failed: perhaps because it has not ended.
        None => Some(match targets.iter().find(|target| !target.run.state.is_over()) {
            Some(target) => texts::still_running(target.run.number),
            None => texts::nothing_to_retry(),
        }),
        Some(Which::Named(name)) if runs.is_empty() => {
            Some(texts::unknown_stage(name, nearest(name, targets::stage_names(targets))))
        }
        Some(Which::Named(name)) if runs.iter().all(|run| run.state.is_over() && !has_failed(targets, run)) => {
            runs.first().map(|run| texts::did_not_fail(name, run.number))
        }
        Some(_) if runs.iter().all(|run| !run.state.is_over()) => {
            runs.iter().find(open).map(|run| texts::still_running(run.number))
        }
        Some(_) => None,
    }
}

async fn cancel(scene: &Scene<'_>, turn: &Turn<'_>, which: Option<&Which>) -> Result<Said, Trouble> {
    let all = targets::all(scene).await?;
    let open = |run: &&Run| !run.state.is_over();
    let runs: Vec<&Run> = match which {
        _ if turn.row.aims.is_some() => vec![],
        None => all.iter().filter(open).collect(),
        Some(Which::Run(number)) => match all.iter().find(|run| run.number == *number) {
            None => return Ok(Said::refused(texts::not_of_this(*number))),
            Some(run) => vec![run],
        },
        Some(Which::Named(name)) => {
            let of: Vec<&Run> = all.iter().filter(|run| run.pipeline == *name).collect();
            if of.is_empty() {
                return Ok(Said::refused(texts::cancel_takes(name)));
            }
            let open: Vec<&Run> = of.into_iter().filter(open).collect();
            if open.is_empty() {
                return Ok(Said::refused(texts::none_of_pipeline_runs(name)));
            }
            open
        }
    };
    if turn.row.aims.is_none() && runs.is_empty() {
        return Ok(Said::refused(texts::nothing_runs()));
    }
    let reason = format!("{} cancelled it in a comment.", scene.person.account().login);
    let mut refused = None;
    let mut done = false;
    for aim in aims(scene, turn, &runs).await? {
        match cancel::cancel(scene.context, &aim.run, &reason, scene.now).await {
            Ok(()) => done = true,
            Err(Error::Refused(why)) => refused = Some(why),
            Err(error) => return Err(Trouble::Advance(error)),
        }
    }
    Ok(match refused {
        // Of several some may have ended meanwhile; what was begun before has ended them.
        Some(why) if !done && turn.fresh => Said::refused(texts::of_verb(&why)),
        Some(_) | None => Said::done(),
    })
}

/// `/rollback`: a run of its own, under its own approval. A lock is not gone through from here.
async fn rollback(scene: &Scene<'_>, turn: &Turn<'_>, environment: &str, to: Option<i64>) -> Result<Said, Trouble> {
    let wish = Wish {
        repo: scene.repo.id.clone(),
        environment: environment.to_owned(),
        to,
        through_lock: false,
        actor: scene.person.account().login.clone(),
        key: Some(format!("{}:{}", turn.key.source, turn.key.position)),
    };
    let run = match rollback::environment(scene.context, &wish, scene.now).await {
        Ok(run) => run,
        Err(Error::NotFound) => return Ok(Said::refused(texts::no_environment(environment))),
        Err(error) => return said(Err(error), turn),
    };
    let mut tx = scene.context.store.begin().await?;
    tx.aim_command(turn.key, &[aim_of(&run)]).await?;
    let pipeline = tx.run(&run).await?.pipeline;
    tx.commit().await?;
    Ok(Said::started(&pipeline, run))
}

/// A run that a command started.
pub(super) fn aim_of(run: &RunId) -> Aim {
    Aim { run: run.clone(), version: Aim::NEW }
}
