//! `/run PIPELINE` and the words of `on.comment`: runs of the pull request's head, with inputs that the pipeline declares
//! and nothing else. They are asked for by name, so triggers, filters and skip markers do not stand against them; trust does.

use super::perform::aim_of;
use super::{Said, Scene, Trouble, Turn, texts};
use crate::actions::people::Person;
use crate::definitions;
use crate::engine::launch::{LaunchError, launch_named};
use crate::engine::trust;
use crate::forge::people::Permission;
use crate::forge::{ForgeError, Loaded, Trigger};
use crate::model::command::Line;
use crate::store::commands::CommandOutcome;
use pipelines_spec::protocol::{Sources, Trust};
use pipelines_spec::trigger::{CommentTrigger, EventFacts, EventKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The words of `on.comment` at the pull request's head, each with the pipelines that have it.
#[derive(Default)]
pub(super) struct Words {
    entries: Vec<(String, CommentTrigger)>,
}

impl Words {
    /// Whether a pipeline has it.
    pub(super) fn is_known(&self, word: &str) -> bool {
        self.entries.iter().any(|(_, entry)| entry.command == word)
    }

    /// The pipelines that somebody may start with it.
    fn open_to(&self, word: &str, person: &Person) -> Vec<&str> {
        // What cannot be read asks for the most.
        let least = |entry: &CommentTrigger| entry.permission.parse().unwrap_or(Permission::Admin);
        let open = self.entries.iter().filter(|(_, entry)| entry.command == word && person.may(least(entry)));
        open.map(|(pipeline, _)| pipeline.as_str()).collect()
    }

    /// Whether somebody may start anything with it.
    pub(super) fn may_start(&self, word: &str, person: &Person) -> bool {
        !self.open_to(word, person).is_empty()
    }

    /// Each word once, with what it starts.
    pub(super) fn all(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (pipeline, entry) in &self.entries {
            all.entry(&entry.command).or_default().push(pipeline);
        }
        all
    }
}

/// The words that could be meant: nothing is evaluated where no line has one, or nobody would be listened to.
pub(super) async fn words(scene: &Scene<'_>, lines: &[Line]) -> Result<Words, Trouble> {
    if lines.iter().all(|line| line.own_word().is_none()) || !scene.pull.open {
        return Ok(Words::default());
    }
    // Somebody who may not write makes the definitions be read a few times, and no more.
    if !scene.person.may(Permission::Write) && super::given_before(scene).await? >= super::MOST_COMMANDS {
        return Ok(Words::default());
    }
    Ok(defined(scene).await?.1)
}

/// The pipelines at the head and the words they have.
pub(super) async fn defined(scene: &Scene<'_>) -> Result<(Vec<String>, Words), Trouble> {
    let trigger = trigger(scene, "", None);
    let loaded = sources(scene, &trigger.facts).await?;
    let all = definitions::evaluate(&scene.context.evaluator, &loaded.sources, &trigger.facts).await;
    let usable = all.into_iter().filter_map(|defined| defined.usable().ok());
    let mut words = Words::default();
    let mut names = vec![];
    for (pipeline, _) in usable {
        words.entries.extend(pipeline.on.comment.iter().map(|entry| (pipeline.stem.clone(), entry.clone())));
        names.push(pipeline.stem);
    }
    Ok((names, words))
}

async fn sources(scene: &Scene<'_>, facts: &EventFacts) -> Result<Loaded, ForgeError> {
    scene.forge.sources(&scene.repo.facts(), &facts.sha).await
}

/// `/run PIPELINE`.
pub(super) async fn run(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    pipeline: &str,
    inputs: &[(String, String)],
) -> Result<Said, Trouble> {
    let (trigger, loaded) = prepared(scene, turn).await?;
    one(scene, turn, (&trigger, &loaded.sources), pipeline, inputs).await
}

/// A word of `on.comment`: every pipeline that has it.
pub(super) async fn own(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    word: &str,
    inputs: &[(String, String)],
) -> Result<Said, Trouble> {
    let meant = turn.words.open_to(word, &scene.person);
    if meant.is_empty() {
        let known = turn.words.is_known(word);
        return Ok(Said::silent(if known { CommandOutcome::Stranger } else { CommandOutcome::Unknown }));
    }
    let (trigger, loaded) = prepared(scene, turn).await?;
    let mut started = None;
    let mut refused: Vec<String> = vec![];
    for pipeline in meant {
        let said = one(scene, turn, (&trigger, &loaded.sources), pipeline, inputs).await?;
        match said.answer {
            Some(answer) => refused.push(answer),
            None => started = Some(said),
        }
    }
    match (refused.is_empty(), started) {
        (true, Some(said)) => Ok(said),
        (_, started) => Ok(Said { run: started.and_then(|said| said.run), ..Said::refused(refused.join("\n\n")) }),
    }
}

/// What starts, judged by who asks as it would be by who pushes, and the definitions at its commit.
async fn prepared(scene: &Scene<'_>, turn: &Turn<'_>) -> Result<(Trigger, Loaded), Trouble> {
    let repo = scene.repo.facts();
    let message = match scene.forge.resolve(&repo, scene.head_sha()).await {
        Err(ForgeError::NotFound(_)) => None,
        found => Some(found?.message),
    };
    let mut trigger = trigger(scene, &turn.line.text, message);
    trigger.source_key = format!("{}:{}", turn.key.source, turn.key.position);
    let trigger = trust::judged(&scene.forge, trigger).await?;
    let loaded = sources(scene, &trigger.facts).await?;
    Ok((trigger, loaded))
}

async fn one(
    scene: &Scene<'_>,
    turn: &Turn<'_>,
    (trigger, sources): (&Trigger, &Sources),
    pipeline: &str,
    inputs: &[(String, String)],
) -> Result<Said, Trouble> {
    let given: Map<String, Value> = inputs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let started =
        launch_named(scene.context, scene.repo, (pipeline, sources), trigger, &given, scene.delivery, scene.now);
    let run = match started.await {
        Ok(run) => run,
        Err(LaunchError::Inputs(errors)) => return Ok(Said::refused(texts::wrong_inputs(pipeline, &errors))),
        Err(LaunchError::Definition(problems)) => return Ok(Said::refused(texts::broken(pipeline, &problems))),
        Err(LaunchError::NotFound(why) | LaunchError::NotAllowed(why)) => {
            return Ok(Said::refused(texts::of_engine(&why)));
        }
        Err(LaunchError::Forge(error)) => return Err(error.into()),
        Err(LaunchError::Store(error)) => return Err(error.into()),
    };
    let mut tx = scene.context.store.begin().await?;
    tx.aim_command(turn.key, &[aim_of(&run)]).await?;
    tx.commit().await?;
    Ok(Said::started(pipeline, run))
}

/// The pull request's head, asked for by a comment. What it says goes along as data.
fn trigger(scene: &Scene<'_>, line: &str, message: Option<String>) -> Trigger {
    let (repo, pull) = (scene.repo.facts(), &scene.pull.facts);
    let actor = scene.person.account().clone();
    let extra = [("command", Value::from(line)), ("comment_id", scene.comment.id.into())];
    let facts = EventFacts {
        name: EventKind::Comment,
        action: Some("created".to_owned()),
        repo: repo.full_name(),
        default_branch: repo.default_branch.clone(),
        git_ref: format!("refs/pull/{}/head", pull.number),
        branch: Some(pull.head.clone()),
        tag: None,
        sha: pull.head_sha.clone(),
        before: None,
        forced: false,
        actor: actor.login.clone(),
        message,
        pull_request: Some(pull.clone()),
        dispatch_type: None,
        extra: extra.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let distrust = pull.fork.then(|| match &scene.pull.head_repo {
        Some(name) => format!("the head is in {name}, a fork"),
        None => "head repository is gone".to_owned(),
    });
    Trigger {
        repo,
        facts,
        source_key: String::new(),
        trust: if distrust.is_some() { Trust::Untrusted } else { Trust::Trusted },
        trust_reason: distrust,
        actor,
        author: Some(scene.pull.author.clone()),
    }
}
