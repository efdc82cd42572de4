//! What people say at gates: yes, no, taken back, and whether a stranger's commit may run. Which stage is meant is found
//! here; whether they may say so, and for what it counts, the verbs decide.

use super::perform::said;
use super::targets::{self, Gate, Target};
use super::{Said, Scene, Trouble, Turn, texts};
use crate::actions::approve::{Decision, approve as decide, revoke};
use crate::actions::let_in::{self, LetIn};
use crate::actions::reviewers::Decider;
use crate::engine::advance::Error;
use crate::model::approval::Verdict;
use crate::store::commands::CommandOutcome;
use pipelines_spec::suggest::nearest;
use std::collections::BTreeMap;

fn decider(scene: &Scene<'_>) -> Decider {
    Decider::Person(scene.person.clone())
}

pub(super) async fn approve(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    stage: Option<&str>,
    sha: Option<&str>,
) -> Result<Said, Trouble> {
    if let Some(sha) = sha.filter(|sha| !scene.head_sha().starts_with(*sha)) {
        return Ok(Said::refused(texts::not_the_head(sha, scene.head_sha())));
    }
    let targets = targets::current(scene).await?;
    let gates = named(&targets, stage);
    let gate = match gates.as_slice() {
        [gate] => gate,
        [] => return none_waits(scene, turn, &targets, stage).await,
        several => return Ok(Said::refused(which(several, "/approve", scene.head_sha()))),
    };
    let decision = Decision {
        stage: Some(gate.stage.name.clone()),
        approve: true,
        by: decider(scene),
        sha: sha.map(str::to_owned),
        said_at: Some(scene.said_at()),
        comment: None,
        via: "comment".to_owned(),
    };
    let said = said(decide(scene.context, &gate.run.id, &decision, scene.now).await, turn)?;
    settled(scene, turn, &targets, Some(&gate.stage.name), Verdict::Approve, said).await
}

fn named<'a>(targets: &'a [Target], stage: Option<&str>) -> Vec<Gate<'a>> {
    let meant = |gate: &Gate<'_>| stage.is_none_or(|name| targets::is_named(gate.run, gate.stage, name));
    targets::gates(targets).into_iter().filter(meant).collect()
}

fn which(gates: &[Gate<'_>], word: &str, head: &str) -> String {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for gate in gates {
        *count.entry(gate.stage.name.as_str()).or_default() += 1;
    }
    let name = |gate: &Gate<'_>| match count.get(gate.stage.name.as_str()) {
        Some(1) => gate.stage.name.clone(),
        _ => gate.full_name(),
    };
    texts::several_wait(&gates.iter().map(name).collect::<Vec<_>>(), word, head)
}

/// Why there is nothing to approve: it was approved already, a stranger's change has to be let in first, or no such stage.
async fn none_waits(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    targets: &[Target],
    stage: Option<&str>,
) -> Result<Said, Trouble> {
    let given = targets::decided(scene, targets, stage, Verdict::Approve).await?;
    if let Some(first) = given.first() {
        let said = Said::refused(texts::already_approved(&first.actor, first.created_at));
        return settled(scene, turn, targets, stage, Verdict::Approve, said).await;
    }
    if !targets::not_let_in(targets).is_empty() {
        return Ok(Said::refused(texts::name_the_commit(scene.pull.facts.fork, scene.head_sha())));
    }
    Ok(Said::refused(match stage {
        None => texts::nothing_waits(),
        Some(name) if targets::has_stage(targets, name) => texts::does_not_wait(name),
        Some(name) => texts::unknown_stage(name, nearest(name, targets::stage_names(targets))),
    }))
}

/// A command that was begun before, took effect, and was cut off before that was written down finds its own effect: it is
/// done, not refused.
async fn settled(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    targets: &[Target],
    stage: Option<&str>,
    verdict: Verdict,
    said: Said,
) -> Result<Said, Trouble> {
    if turn.fresh || said.outcome != CommandOutcome::Refused {
        return Ok(said);
    }
    let own = Some(scene.person.account().id);
    let found = targets::decided(scene, targets, stage, verdict).await?;
    let mine =
        found.iter().any(|a| a.actor_forge_id == own && a.via == "comment" && a.created_at >= turn.row.created_at);
    Ok(if mine { Said::done() } else { said })
}

pub(super) async fn unapprove(scene: &Scene<'_>, stage: Option<&str>) -> Result<Said, Trouble> {
    let targets = targets::current(scene).await?;
    let mut refused = None;
    let mut taken = false;
    for target in targets.iter().filter(|target| !target.run.state.is_over()) {
        let names = target.stages.iter().find(|s| stage.is_some_and(|name| targets::is_named(&target.run, s, name)));
        if stage.is_some() && names.is_none() {
            continue;
        }
        let name = names.map(|stage| stage.base.as_str());
        match revoke(scene.context, &target.run.id, name, &decider(scene), scene.now).await {
            Ok(()) => taken = true,
            Err(Error::Refused(why)) => refused = Some(why),
            Err(error) => return Err(Trouble::Advance(error)),
        }
    }
    Ok(match (taken, refused, stage) {
        (true, ..) => Said::done(),
        (false, Some(why), _) => Said::refused(texts::of_verb(&why)),
        (false, None, Some(name)) if !targets::has_stage(&targets, name) => {
            Said::refused(texts::unknown_stage(name, nearest(name, targets::stage_names(&targets))))
        }
        (false, None, Some(name)) => Said::refused(texts::does_not_wait(name)),
        (false, None, None) => Said::refused(texts::nothing_waits()),
    })
}

/// The first word is a stage where one of that name waits; else all of it is the reason.
pub(super) async fn reject(scene: &Scene<'_>, turn: &Turn<'_>, text: &str) -> Result<Said, Trouble> {
    let targets = targets::current(scene).await?;
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let of_first = named(&targets, Some(first));
    let (stage, gates, reason) = match of_first.is_empty() || first.is_empty() {
        false => (Some(first), of_first, rest.trim()),
        true if targets::has_stage(&targets, first) => {
            let said = Said::refused(texts::does_not_wait(first));
            return settled(scene, turn, &targets, Some(first), Verdict::Reject, said).await;
        }
        true => (None, named(&targets, None), text),
    };
    let (run, stage_name) = match gates.as_slice() {
        [gate] => (gate.run.id.clone(), Some(gate.stage.name.clone())),
        [] => match targets::not_let_in(&targets).first() {
            Some(run) => (run.id.clone(), None),
            None => {
                let said = Said::refused(texts::nothing_waits());
                return settled(scene, turn, &targets, None, Verdict::Reject, said).await;
            }
        },
        several => return Ok(Said::refused(which(several, "/reject", scene.head_sha()))),
    };
    let decision = Decision {
        stage: stage_name,
        approve: false,
        by: decider(scene),
        sha: None,
        said_at: Some(scene.said_at()),
        comment: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        via: "comment".to_owned(),
    };
    let said = said(decide(scene.context, &run, &decision, scene.now).await, turn)?;
    settled(scene, turn, &targets, stage, Verdict::Reject, said).await
}

/// `/ok-to-test`: the verb asks for the head once more and lets in exactly that.
pub(super) async fn consent(scene: &Scene<'_>, turn: &Turn<'_>, sha: Option<&str>) -> Result<Said, Trouble> {
    let targets = targets::current(scene).await?;
    let waiting = targets::not_let_in(&targets);
    match sha {
        None if waiting.is_empty() && !scene.pull.facts.fork => return Ok(Said::refused(texts::needs_no_consent())),
        None => return Ok(Said::refused(texts::name_the_commit(scene.pull.facts.fork, scene.head_sha()))),
        Some(_) => {}
    }
    let by = decider(scene);
    let asked = LetIn { repo: scene.repo, number: scene.number(), sha, by: &by, via: "comment" };
    match let_in::let_in(scene.context, &asked, scene.now).await {
        // It was begun before, and what it was to let in is let in.
        Err(Error::Refused(_)) if !turn.fresh && waiting.is_empty() && !targets.is_empty() => Ok(Said::done()),
        answer => said(answer.map(|_| ()), turn),
    }
}

/// `/ok-to-test cancel`.
pub(super) async fn shut_out(scene: &Scene<'_>, turn: &Turn<'_>) -> Result<Said, Trouble> {
    let shut = let_in::shut_out(scene.context, scene.repo, scene.number(), &decider(scene), scene.now).await;
    said(shut.map(|_| ()), turn)
}
