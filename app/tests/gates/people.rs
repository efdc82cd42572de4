//! What people do at gates, as the comment commands would have them do it: the forge vouches for them first.

use crate::conversation::Rivet;
use rivet::actions::approve::{Decider, Decision, approve, revoke};
use rivet::actions::let_in::{LetIn, let_in, shut_out};
use rivet::actions::people::ask;
use rivet::engine::advance::Error;
use rivet::forge::people::Account;
use rivet::model::ids::RunId;
use rivet::model::time::Timestamp;

/// What was answered: `done`, or why not.
fn said<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Somebody as an event names them, asked about.
pub async fn decider(rivet: &Rivet, login: &str) -> Result<Decider, String> {
    let user = rivet.github.world().user(login);
    let claimed = Account { login: login.to_owned(), id: user["id"].as_i64().unwrap(), is_bot: user["type"] == "Bot" };
    let forge = rivet.context.forges.of(rivet.repo.forge).unwrap();
    ask(&forge, &rivet.repo, &claimed).await.map(Decider::Person).map_err(|error| error.to_string())
}

/// `/ok-to-test SHA` by `login`.
pub async fn ok_to_test(rivet: &Rivet, number: i64, login: &str, sha: Option<&str>) -> String {
    let by = match decider(rivet, login).await {
        Ok(by) => by,
        Err(why) => return why,
    };
    let repo = rivet.tx().await.repo(&rivet.repo.id()).await.unwrap();
    let asked = LetIn { repo: &repo, number, sha, by: &by, via: "comment" };
    let answer = said(let_in(&rivet.context, &asked, rivet.now()).await);
    rivet.settle().await;
    answer
}

/// `/ok-to-test cancel` by `login`.
pub async fn not_ok_to_test(rivet: &Rivet, number: i64, login: &str) -> String {
    let by = decider(rivet, login).await.unwrap();
    let repo = rivet.tx().await.repo(&rivet.repo.id()).await.unwrap();
    let answer = said(shut_out(&rivet.context, &repo, number, &by, rivet.now()).await);
    rivet.settle().await;
    answer
}

/// `/approve [SHA]` of run `number` by `login`, in a comment that was written now.
pub async fn approves(rivet: &Rivet, run: i64, login: &str, sha: Option<&str>) -> String {
    // (Not in the call: the world stays locked to its end.)
    let said_at = Timestamp(rivet.github.world().time().timestamp_millis());
    decides(rivet, run, login, sha, true, Some(said_at)).await
}

/// `/reject` of run `number` by `login`.
pub async fn rejects(rivet: &Rivet, run: i64, login: &str) -> String {
    decides(rivet, run, login, None, false, None).await
}

pub async fn decides(
    rivet: &Rivet,
    run: i64,
    login: &str,
    sha: Option<&str>,
    approves: bool,
    said_at: Option<Timestamp>,
) -> String {
    let by = match decider(rivet, login).await {
        Ok(by) => by,
        Err(why) => return why,
    };
    let decision = Decision {
        stage: None,
        approve: approves,
        by,
        sha: sha.map(str::to_owned),
        said_at,
        comment: None,
        via: "comment".to_owned(),
    };
    let run = RunId(rivet.run_id(run).await);
    let answer = said(approve(&rivet.context, &run, &decision, rivet.now()).await);
    rivet.settle().await;
    answer
}

/// `login` takes back what they approved in run `number`.
pub async fn revokes(rivet: &Rivet, run: i64, login: &str) -> String {
    let by = decider(rivet, login).await.unwrap();
    let run = RunId(rivet.run_id(run).await);
    let answer = said(revoke(&rivet.context, &run, None, &by, rivet.now()).await);
    rivet.settle().await;
    answer
}

/// Makes it so that the forge was last asked about everybody `minutes` ago.
pub async fn asked_minutes_ago(rivet: &Rivet, minutes: i64) {
    let then = rivet.now().0 - minutes * 60_000;
    rivet.sql(&format!("UPDATE approval SET asked_at = {then}, recheck_at = NULL")).await;
}

/// Commits without the hex digits that differ from time to time.
pub fn plain(text: &str, commits: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (sha, name) in commits {
        text = text.replace(sha, name).replace(&sha[..12], name);
    }
    text
}
