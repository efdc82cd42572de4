//! Commands in comments: who says one is asked of the forge, where it is said is looked at as it stands now, and each calls
//! the one verb that pages and the API call. Everything is done once, however often a delivery is worked on, and answered
//! quietly: by a receipt on the comment, and in Rivet's one comment where something was refused or asked.

mod gates;
mod guard;
mod help;
mod living;
mod perform;
mod start;
mod targets;
mod texts;

use crate::actions::people::Person;
use crate::context::Context;
use crate::engine::advance;
use crate::forge::comments::{Comment, CommentEvent, Reaction};
use crate::forge::pulls::PullRequest;
use crate::forge::{Forge, ForgeError};
use crate::model::command::{self, Line};
use crate::model::ids::{DeliveryId, RunId};
use crate::model::time::Timestamp;
use crate::store;
use crate::store::commands::{CommandKey, CommandOutcome, CommandRow, NewCommand};
use crate::store::decisions::DecisionOutcome;
use crate::store::reports::{ReportKey, Wanted};
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use guard::Guarded;
use serde_json::json;

/// Commands one person may give in a repository in [`MINUTES`].
const MOST_COMMANDS: i64 = 10;
/// The time for which commands are counted.
const MINUTES: i64 = 10;
/// Between two receipts for strangers on one pull request.
const STRANGER_MILLIS: i64 = 60_000;
/// Where the note stands that there were more commands: behind all of them.
const NOTE: i64 = 1_000;

/// Why a comment could not be worked on; it is tried again as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The forge.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A run could not be changed.
    #[error("{0}")]
    Advance(advance::Error),
}

/// One sentence about what became of something, for `why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// What.
    pub outcome: DecisionOutcome,
    /// In one sentence.
    pub reason: String,
    /// The commit it was about.
    pub sha: Option<String>,
    /// The pipeline, where it is about one.
    pub pipeline: Option<String>,
    /// The run that was started.
    pub run: Option<RunId>,
}

/// What became of a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It held nothing for Rivet, and nothing is to be seen of it. Why.
    Nothing(String),
    /// Each of its commands.
    Commands(Vec<Made>),
}

/// A new comment that is to be worked on.
pub struct Listen<'a> {
    /// Where.
    pub repo: &'a Repo,
    /// What was delivered.
    pub event: &'a CommentEvent,
    /// The delivery.
    pub delivery: &'a DeliveryId,
    /// Now.
    pub now: Timestamp,
}

/// Everything a command is given: what was asked of the forge just now, and nothing an event claims.
struct Scene<'a> {
    context: &'a Context,
    repo: &'a Repo,
    forge: Forge,
    delivery: &'a DeliveryId,
    comment: Comment,
    person: Person,
    pull: PullRequest,
    now: Timestamp,
}

impl Scene<'_> {
    fn head_sha(&self) -> &str {
        &self.pull.facts.head_sha
    }

    fn number(&self) -> i64 {
        self.pull.facts.number
    }

    /// When the comment was written, to the second: what was shown within that second was not read before.
    fn said_at(&self) -> Timestamp {
        let told = chrono::DateTime::parse_from_rfc3339(&self.comment.created_at);
        // A time that cannot be read is one before everything: nothing was shown then.
        told.map_or(Timestamp(0), |time| Timestamp(time.timestamp_millis()))
    }

    /// What a line is stored under.
    fn key(&self, position: i64) -> CommandKey {
        let source = format!("comment:{}", self.comment.id);
        CommandKey { repo_id: self.repo.id.clone(), source, position }
    }
}

/// What a command came to.
struct Said {
    outcome: CommandOutcome,
    answer: Option<String>,
    pipeline: Option<String>,
    run: Option<RunId>,
}

impl Said {
    fn of(outcome: CommandOutcome, answer: Option<String>) -> Self {
        Self { outcome, answer, pipeline: None, run: None }
    }

    fn done() -> Self {
        Self::of(CommandOutcome::Done, None)
    }

    fn started(pipeline: &str, run: RunId) -> Self {
        Self { pipeline: Some(pipeline.to_owned()), run: Some(run), ..Self::done() }
    }

    fn refused(answer: String) -> Self {
        Self::of(CommandOutcome::Refused, Some(answer))
    }

    fn silent(outcome: CommandOutcome) -> Self {
        Self::of(outcome, None)
    }
}

/// Follows the commands of a new comment.
pub async fn listen(context: &Context, listen: &Listen<'_>) -> Result<Heard, Trouble> {
    if let Some(why) = guard::out_of_place(listen.event) {
        return Ok(Heard::Nothing(why.to_owned()));
    }
    let forge = context.forges.of(listen.repo.forge)?;
    let (scene, lines) = match guard::scene(context, forge, listen).await? {
        Guarded::Nothing(why) => return Ok(Heard::Nothing(why)),
        Guarded::Silent(why) => return silent(context, listen, why).await,
        Guarded::Unconfirmed(lines, why) => return unconfirmed(context, listen, &lines, &why).await,
        Guarded::Ready(scene, lines) => (scene, lines),
    };
    let words = start::words(&scene, &lines).await?;
    let said = command::first(lines, |word| words.is_known(word));
    if said.lines.is_empty() {
        return Ok(Heard::Nothing("no pipeline has a command of that word".to_owned()));
    }
    let own = |line: &Line| line.own_word().is_some_and(|word| words.may_start(word, &scene.person));
    if said.lines.iter().all(|line| line.own_word().is_some()) && said.lines.iter().any(own) {
        guard::seen(&scene.forge, scene.repo, scene.comment.id).await;
    }
    let mut made = vec![];
    let mut outcomes = vec![];
    let given_before = given_before(&scene).await?;
    for (position, line) in (0_i64..).zip(&said.lines) {
        let key = scene.key(position);
        let (row, fresh) = begin(&scene, &key, line).await?;
        let outcome = match row.outcome {
            Some(outcome) => Said { run: row.aimed_run(), ..Said::of(outcome, row.answer) },
            None => {
                let turn = Turn { key: &key, row: &row, fresh, line, words: &words };
                // Each of the verbs is a large future: on the heap, so that the stack of a pass holds none of them.
                let said = Box::pin(perform::perform(&scene, &turn, given_before + position)).await?;
                end(&scene, &key, line, &said).await?;
                said
            }
        };
        made.push(told(&scene, line, &outcome));
        outcomes.push(outcome.outcome);
    }
    if said.more {
        note_more(&scene).await?;
    }
    receipt(&scene, &outcomes).await?;
    Ok(Heard::Commands(made))
}

/// One command in its turn.
struct Turn<'a> {
    key: &'a CommandKey,
    row: &'a CommandRow,
    /// Whether nobody began it before.
    fresh: bool,
    line: &'a Line,
    words: &'a start::Words,
}

async fn begin(scene: &Scene<'_>, key: &CommandKey, line: &Line) -> Result<(CommandRow, bool), Trouble> {
    let new = NewCommand {
        key: key.clone(),
        pull_request: Some(scene.number()),
        comment_id: Some(scene.comment.id),
        actor: scene.person.account().login.clone(),
        actor_forge_id: scene.person.account().id,
        line: line.text.clone(),
    };
    let mut tx = scene.context.store.begin().await?;
    let begun = tx.begin_command(&new, scene.now).await?;
    tx.commit().await?;
    Ok(begun)
}

/// Ends a command: its outcome, its line of the audit log, and what is to be read about it, in one transaction.
async fn end(scene: &Scene<'_>, key: &CommandKey, line: &Line, said: &Said) -> Result<(), Trouble> {
    let mut tx = scene.context.store.begin().await?;
    tx.end_command(key, said.outcome, said.answer.as_deref(), scene.now).await?;
    let actor = scene.person.account();
    let who = format!("{} ({} {})", actor.login, scene.repo.forge, actor.id);
    let subject = format!("{}#{}", scene.repo.full_name(), scene.number());
    let details =
        json!({ "line": line.text, "comment": scene.comment.id, "answer": said.answer, "head": scene.head_sha() });
    tx.audit(&who, &format!("command.{}", said.outcome), &subject, &details, scene.now).await?;
    if said.answer.is_some() {
        living::want(&mut tx, &scene.repo.id, scene.number(), scene.now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Says that there were more commands than are read.
async fn note_more(scene: &Scene<'_>) -> Result<(), Trouble> {
    let (key, note) = (scene.key(NOTE), Line { text: String::new(), meaning: Ok(command::Command::Help) });
    let (row, _) = begin(scene, &key, &note).await?;
    if row.outcome.is_none() {
        end(scene, &key, &note, &Said::of(CommandOutcome::Answered, Some(texts::only_the_first()))).await?;
    }
    Ok(())
}

/// How many other commands the same person gave lately.
async fn given_before(scene: &Scene<'_>) -> Result<i64, Trouble> {
    let since = scene.now.plus_millis(-MINUTES * 60_000);
    let mut tx = scene.context.store.read().await?;
    Ok(tx.commands_since(&scene.key(0), scene.person.account().id, since).await?)
}

/// The receipt that stays: done, or something to read. A stranger's is the thumb down, once a minute for all of them.
async fn receipt(scene: &Scene<'_>, outcomes: &[CommandOutcome]) -> Result<(), Trouble> {
    let any = |wanted: CommandOutcome| outcomes.contains(&wanted);
    let reaction = if any(CommandOutcome::Refused) {
        Reaction::Confused
    } else if any(CommandOutcome::Done) || any(CommandOutcome::Answered) {
        Reaction::Rocket
    } else if any(CommandOutcome::Stranger) {
        let since = scene.now.plus_millis(-STRANGER_MILLIS);
        let mut tx = scene.context.store.read().await?;
        if tx.strangers_since(&scene.key(0), scene.number(), since).await? > 0 {
            return Ok(());
        }
        Reaction::MinusOne
    } else {
        return Ok(());
    };
    want_receipt(scene.context, scene.repo, scene.comment.id, reaction, scene.now).await
}

async fn want_receipt(
    context: &Context,
    repo: &Repo,
    comment: i64,
    reaction: Reaction,
    now: Timestamp,
) -> Result<(), Trouble> {
    let key = ReportKey { repo_id: repo.id.clone(), sha: String::new(), run_id: None, stage_id: None };
    let mut tx = context.store.begin().await?;
    tx.want(&key, &Wanted::Receipt { comment, reaction }, now).await?;
    tx.commit().await?;
    context.store.wake.notify(Topic::Report).await;
    Ok(())
}

/// A comment that meant to be a command and is none: nothing is seen of it but a line of the audit log.
async fn silent(context: &Context, listen: &Listen<'_>, why: String) -> Result<Heard, Trouble> {
    let event = listen.event;
    let who = format!("{} ({} {})", event.author.login, listen.repo.forge, event.author.id);
    let subject = format!("{}#{}", listen.repo.full_name(), event.number);
    let mut tx = context.store.begin().await?;
    tx.audit(&who, "command.ignored", &subject, &json!({ "comment": event.id, "why": why }), listen.now).await?;
    tx.commit().await?;
    Ok(Heard::Nothing(why))
}

/// Nobody vouched for who asks: every command is refused, which is said, and nothing is done.
async fn unconfirmed(context: &Context, listen: &Listen<'_>, lines: &[Line], why: &str) -> Result<Heard, Trouble> {
    let (event, repo) = (listen.event, listen.repo);
    let mut made = vec![];
    let mut tx = context.store.begin().await?;
    for (position, line) in (0_i64..).zip(lines) {
        let source = format!("comment:{}", event.id);
        let key = CommandKey { repo_id: repo.id.clone(), source, position };
        let new = NewCommand {
            key: key.clone(),
            pull_request: Some(event.number),
            comment_id: Some(event.id),
            actor: event.author.login.clone(),
            actor_forge_id: event.author.id,
            line: line.text.clone(),
        };
        let (row, _) = tx.begin_command(&new, listen.now).await?;
        let (outcome, answer) = match row.outcome {
            Some(outcome) => (outcome, row.answer),
            None => (CommandOutcome::Refused, Some(why.to_owned())),
        };
        tx.end_command(&key, CommandOutcome::Refused, Some(why), listen.now).await?;
        let who = format!("{} ({} {})", event.author.login, repo.forge, event.author.id);
        let subject = format!("{}#{}", repo.full_name(), event.number);
        tx.audit(&who, "command.unconfirmed", &subject, &json!({ "line": line.text, "why": why }), listen.now).await?;
        made.push(made_of(&event.author.login, line, outcome, answer.as_deref()));
    }
    living::want(&mut tx, &repo.id, event.number, listen.now).await?;
    tx.commit().await?;
    want_receipt(context, repo, event.id, Reaction::Confused, listen.now).await?;
    Ok(Heard::Commands(made))
}

fn told(scene: &Scene<'_>, line: &Line, said: &Said) -> Made {
    let made = made_of(&scene.person.account().login, line, said.outcome, said.answer.as_deref());
    let outcome = if said.run.is_some() { DecisionOutcome::Run } else { made.outcome };
    let (pipeline, run) = (said.pipeline.clone(), said.run.clone());
    Made { outcome, sha: Some(scene.head_sha().to_owned()), pipeline, run, ..made }
}

fn made_of(login: &str, line: &Line, outcome: CommandOutcome, answer: Option<&str>) -> Made {
    let (outcome, what) = match outcome {
        CommandOutcome::Done => (DecisionOutcome::Done, "done"),
        CommandOutcome::Answered => (DecisionOutcome::Done, "answered"),
        CommandOutcome::Refused => (DecisionOutcome::Refused, answer.unwrap_or("refused")),
        CommandOutcome::Unknown => (DecisionOutcome::Skip, "no pipeline has such a command"),
        CommandOutcome::Stranger => (DecisionOutcome::Refused, "who said so may not"),
    };
    // One line, whatever the answer looks like below the pull request.
    let what: Vec<&str> = what.lines().map(|line| line.trim_start_matches("- ")).filter(|l| !l.is_empty()).collect();
    let reason = format!("{login} wrote '{}': {}", line.text, what.join(" "));
    Made { outcome, reason, sha: None, pipeline: None, run: None }
}
