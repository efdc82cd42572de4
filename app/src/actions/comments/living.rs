//! The one comment of Rivet's on a pull request: it holds the last few answers, newest first, and is changed rather than
//! written anew, so that nobody is told twice.

use crate::actions::comments::texts::code;
use crate::forge::markdown::sentence;
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;
use crate::store::commands::CommandRow;
use crate::store::reports::{LivingComment, ReportKey, Wanted};
use crate::store::{Result, Tx};

/// Answers that are kept to be read.
const ANSWERS: i64 = 5;
/// Bytes of one answer: all of them fit into one comment of GitHub's.
const ANSWER_BYTES: usize = 10_000;

/// Wants the comment to hold what was answered last.
pub(super) async fn want(tx: &mut Tx, repo: &RepoId, pull: i64, now: Timestamp) -> Result<()> {
    let rows = tx.answered_commands(repo, pull, ANSWERS).await?;
    let comment = LivingComment { pull_request: pull, body: body(&rows) };
    let key = ReportKey { repo_id: repo.clone(), sha: String::new(), run_id: None, stage_id: None };
    tx.want(&key, &Wanted::Comment(comment), now).await
}

fn body(rows: &[CommandRow]) -> String {
    let mut text = String::from(LivingComment::MARKER);
    let mut before = None;
    for row in rows {
        // Commands of one comment share their heading.
        if before != Some(row.comment_id) {
            let id = row.comment_id.unwrap_or_default();
            text.push_str(&format!("\n\n**Answer to {}** ([comment](#issuecomment-{id}))", sentence(&row.actor)));
            before = Some(row.comment_id);
        }
        let answer = row.answer.as_deref().unwrap_or_default();
        let answer = &answer[..answer.floor_char_boundary(ANSWER_BYTES)];
        let said = if row.line.is_empty() { String::new() } else { format!("{}\n\n", code(&row.line)) };
        text.push_str(&format!("\n\n{said}{answer}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_below_who_asked() {
        let row = |comment, line: &str, answer: &str| CommandRow {
            comment_id: Some(comment),
            actor: "alice".into(),
            line: line.into(),
            aims: None,
            outcome: None,
            answer: Some(answer.into()),
            created_at: Timestamp(0),
        };
        let rows = [
            row(12, "/retry @acme/ops `x`", "Unknown stage."),
            row(12, "", "Only the first 5 commands in a comment are read."),
            row(11, "/help", "…"),
        ];
        insta::assert_snapshot!(body(&rows), @"
        <!-- rivet: answers to commands -->

        **Answer to alice** ([comment](#issuecomment-12))

        `` /retry @acme/ops `x` ``

        Unknown stage.

        Only the first 5 commands in a comment are read.

        **Answer to alice** ([comment](#issuecomment-11))

        `/help`

        …
        ");
    }
}
