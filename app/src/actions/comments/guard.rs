//! Whether a comment is listened to at all: by a person, new, unchanged, on an open pull request. What an event says is
//! only a reason to look; what counts is what the forge says now.

use super::{Listen, Scene, texts};
use crate::actions::people::{self, NotConfirmed};
use crate::context::Context;
use crate::forge::comments::{Comment, CommentEvent, Reaction};
use crate::forge::people::Permission;
use crate::forge::{Forge, ForgeError};
use crate::model::command::{self, Line};
use crate::store::repos::Repo;

/// Bytes from which on a delivery's text may be cut: the forge's own is longer then.
const CUT_BYTES: usize = (64 << 10) - 4;

/// What the look at a comment came to.
pub(super) enum Guarded<'a> {
    /// There is no command in it.
    Nothing(String),
    /// It is not followed, and that is written down: why.
    Silent(String),
    /// Nobody vouched for its author: what to answer.
    Unconfirmed(Vec<Line>, String),
    /// It is followed.
    Ready(Box<Scene<'a>>, Vec<Line>),
}

/// What is seen without asking anybody: why the comment is none of ours.
pub(super) fn out_of_place(event: &CommentEvent) -> Option<&'static str> {
    if !event.on_pull_request {
        return Some("it is on an issue; commands are read on pull requests");
    }
    if event.author.is_bot {
        return Some("a bot wrote it; commands are people's");
    }
    if event.via_app.is_some() {
        return Some("it was written by an App in somebody's name; commands are people's own");
    }
    if event.author.id <= 0 {
        return Some("nobody can tell who wrote it");
    }
    if !command::may_hold(&event.body) && event.body.len() < CUT_BYTES {
        return Some("it holds no command");
    }
    None
}

/// Asks the forge for everything else.
pub(super) async fn scene<'a>(
    context: &'a Context,
    forge: Forge,
    listen: &Listen<'a>,
) -> Result<Guarded<'a>, ForgeError> {
    let (event, repo) = (listen.event, listen.repo);
    let facts = repo.facts();
    let comment = match forge.comment(&facts, event.id).await {
        Err(ForgeError::NotFound(_)) => return Ok(Guarded::Silent("the comment is gone".to_owned())),
        other => other?,
    };
    if let Some(why) = changed(event, &comment) {
        return Ok(Guarded::Silent(why.to_owned()));
    }
    let lines = command::read(&comment.body);
    if lines.is_empty() {
        return Ok(Guarded::Nothing("it holds no command".to_owned()));
    }
    let person = match people::ask(&forge, &facts, &comment.author).await {
        Ok(person) => person,
        Err(error @ NotConfirmed::Another(_)) => return Ok(Guarded::Silent(error.to_string())),
        Err(error @ NotConfirmed::Unanswered(_)) => {
            // Whether a pipeline has a word is not asked for somebody nobody vouches for.
            let own = command::first(lines, |_| false).lines;
            return Ok(match own.is_empty() {
                true => Guarded::Silent(error.to_string()),
                false => Guarded::Unconfirmed(own, texts::not_confirmed(&error)),
            });
        }
    };
    // Whether a pipeline has a word of its own takes a while to find out; Rivet's own commands are seen at once.
    if person.may(Permission::Write) && lines.iter().any(|line| line.own_word().is_none()) {
        seen(&forge, repo, event.id).await;
    }
    let pull = match forge.pull_request(&facts, event.number).await {
        Err(ForgeError::NotFound(_)) => return Ok(Guarded::Silent("the pull request is gone".to_owned())),
        other => other?,
    };
    let (delivery, now) = (listen.delivery, listen.now);
    let scene = Scene { context, repo, forge, delivery, comment, person, pull, now };
    Ok(Guarded::Ready(Box::new(scene), lines))
}

/// The receipt that says at once that somebody listens. It is a courtesy: should it fail, the one at the end still comes.
pub(super) async fn seen(forge: &Forge, repo: &Repo, comment: i64) {
    if let Err(error) = forge.react(&repo.facts(), comment, Reaction::Eyes).await {
        tracing::warn!(comment, %error, "comment {comment} got no receipt: {error}");
    }
}

/// Why the comment is not the one that was delivered, if it is not: what was agreed to must be what was written first.
fn changed(event: &CommentEvent, comment: &Comment) -> Option<&'static str> {
    if !comment.author.is(&event.author) || comment.author.is_bot {
        return Some("the comment's author is not who the delivery named");
    }
    if comment.updated_at != comment.created_at || event.updated_at != event.created_at {
        return Some("the comment was edited");
    }
    let cut = event.body.len() >= CUT_BYTES;
    let same = if cut { comment.body.starts_with(&event.body) } else { comment.body == event.body };
    if !same || comment.created_at != event.created_at {
        return Some("the comment is not what was delivered");
    }
    None
}
