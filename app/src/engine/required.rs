//! What the required status `rivet/PIPELINE` says where no run speaks for it. It passes for a skip only where the base
//! branch's definition proves that none was needed: a change must not be able to open its own gate.

use super::planner::{Outcome, Skip};
use crate::store::reports::StatusState;
use pipelines_spec::trigger::EventKind;

/// What the base branch's definition says to the same event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseSays {
    /// It would start.
    Runs,
    /// Only its path filter holds it back.
    ByPath,
    /// It is not meant for the event.
    NotMeant,
    /// It cannot be read.
    Broken,
    /// There is no such pipeline.
    Absent,
}

/// The status and what it says; `None` where a run (or another event) speaks, or where nobody waits for it. `base` is
/// `None` where there is nothing to compare with: the commit is then taken at its word.
pub fn required(
    event: EventKind,
    outcome: &Outcome,
    because: &str,
    base: Option<BaseSays>,
) -> Option<(StatusState, String)> {
    let not_run = |state, text: &str| Some((state, format!("Not run: {text}")));
    let skip = match outcome {
        Outcome::Start(_) => return None,
        Outcome::Broken => return Some((StatusState::Error, because.to_owned())),
        Outcome::Removed => return not_run(StatusState::Error, because),
        Outcome::Skip(skip) => skip,
    };
    match event {
        EventKind::Push | EventKind::PullRequest | EventKind::MergeGroup => {}
        // Nobody requires what a clock, a person or a program starts.
        EventKind::Comment
        | EventKind::Schedule
        | EventKind::Manual
        | EventKind::RepositoryDispatch
        | EventKind::Pipeline => return None,
    }
    match (skip, base) {
        (Skip::Elsewhere, _) => None,
        (Skip::Conflict | Skip::Superseded, _) => not_run(StatusState::Error, because),
        // Whoever writes the message would otherwise open the gate with it.
        (Skip::Marker, _) => not_run(StatusState::Pending, because),
        (Skip::Path, None | Some(BaseSays::ByPath)) => Some((StatusState::Success, format!("Skipped: {because}"))),
        (Skip::NotMeant, None | Some(BaseSays::NotMeant | BaseSays::Absent | BaseSays::Broken)) => None,
        (Skip::Path, Some(BaseSays::NotMeant | BaseSays::Absent)) => Some((
            StatusState::Pending,
            format!("Not run, and the base branch's definition does not say so: {because}"),
        )),
        (Skip::Path, Some(BaseSays::Broken)) => {
            Some((StatusState::Pending, format!("Not run, and the base branch's definition cannot be read: {because}")))
        }
        (Skip::Path, Some(BaseSays::Runs)) | (Skip::NotMeant, Some(BaseSays::Runs | BaseSays::ByPath)) => {
            let text = format!("Not run, and only because this change edits the pipeline: {because}");
            Some((StatusState::Error, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each way to be skipped: what the status says without a base, and for each answer of the base.
    fn table(event: EventKind) -> String {
        let bases = [
            None,
            Some(BaseSays::Runs),
            Some(BaseSays::ByPath),
            Some(BaseSays::NotMeant),
            Some(BaseSays::Broken),
            Some(BaseSays::Absent),
        ];
        let skips = [Skip::NotMeant, Skip::Path, Skip::Marker, Skip::Conflict, Skip::Elsewhere, Skip::Superseded];
        let outcomes = skips.map(Outcome::Skip).into_iter().chain([Outcome::Broken, Outcome::Removed]);
        let lines = outcomes.map(|outcome| {
            let said = bases.map(|base| match required(event, &outcome, "why", base) {
                Some((state, _)) => state.to_string(),
                None => "-".to_owned(),
            });
            format!("{outcome:?}: {}", said.join(" "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_skip_passes_only_with_the_bases_proof() {
        insta::assert_snapshot!(table(EventKind::PullRequest), @"
        Skip(NotMeant): - error error - - -
        Skip(Path): success error success pending pending pending
        Skip(Marker): pending pending pending pending pending pending
        Skip(Conflict): error error error error error error
        Skip(Elsewhere): - - - - - -
        Skip(Superseded): error error error error error error
        Broken: error error error error error error
        Removed: error error error error error error
        ");
        assert_eq!(table(EventKind::PullRequest), table(EventKind::MergeGroup));
        assert_eq!(table(EventKind::PullRequest), table(EventKind::Push));
    }

    #[test]
    fn nobody_requires_what_a_clock_or_a_person_starts() {
        insta::assert_snapshot!(table(EventKind::Schedule), @"
        Skip(NotMeant): - - - - - -
        Skip(Path): - - - - - -
        Skip(Marker): - - - - - -
        Skip(Conflict): - - - - - -
        Skip(Elsewhere): - - - - - -
        Skip(Superseded): - - - - - -
        Broken: error error error error error error
        Removed: error error error error error error
        ");
    }
}
