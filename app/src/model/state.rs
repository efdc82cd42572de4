//! THE state machine: what a run, a stage and a job may become. Pure, total, and the only code that picks a state; the
//! whole table is a snapshot in `tests/state.rs`. [`super::settle`] decides *which* events happen.

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString,
            strum::EnumIter, sqlx::Type,
        )]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        #[sqlx(type_name = "TEXT", rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),* }
    };
}

states! {
    /// Where a run stands.
    RunState {
        /// It has not begun: its concurrency group is busy.
        Pending,
        /// Its stages are under way.
        Running,
        /// Every stage that could go on sleeps.
        Sleeping,
        /// It failed, and what it did is being undone.
        RollingBack,
        /// Everything that should happen did.
        Completed,
        /// Something failed.
        Failed,
        /// Somebody ended it.
        Cancelled,
        /// A person must resolve it: history and code differ.
        Diverged,
        /// A person must resolve it: a limit was reached.
        Stuck,
    }
}

states! {
    /// Where a stage stands.
    StageState {
        /// What it depends on has not ended.
        Pending,
        /// People must agree first.
        AwaitingApproval,
        /// A runner may claim it.
        Queued,
        /// A runner executes it.
        Running,
        /// Its script sleeps or waits, holding no runner.
        Sleeping,
        /// It did what it should.
        Succeeded,
        /// It did not.
        Failed,
        /// It was not to run.
        Skipped,
        /// It was ended before it could end.
        Cancelled,
        /// What it did is being undone.
        RollingBack,
        /// What it did was undone.
        RolledBack,
    }
}

states! {
    /// Where a job stands.
    JobState {
        /// Nobody has it.
        Queued,
        /// A runner has it; no user code has started.
        Claimed,
        /// User code may have run.
        Running,
        /// It is over.
        Finished,
    }
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub enum RunEvent {
    /// Its turn has come.
    Start,
    /// Everything ended, nothing failed.
    Complete,
    /// Everything ended, something failed.
    Fail,
    /// Something failed and there is something to undo, or a person asks for it.
    RollBack,
    /// A person (or a newer run) ended it, and everything has stopped.
    Cancel,
    /// A person asks for failed stages to be tried again.
    Reopen,
}

/// What can happen to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub enum StageEvent {
    /// It may go as soon as people agree.
    Hold,
    /// It may go.
    Queue,
    /// It will not run.
    Skip,
    /// The gate said no, or closed.
    Reject,
    /// Its definition cannot be carried out.
    Break,
    /// A runner began to execute it.
    Start,
    /// It did what it should.
    Succeed,
    /// It did not, and is not tried again.
    Fail,
    /// It did not (or its runner was lost) and is tried again.
    Retry,
    /// It is ended before it could end.
    Cancel,
    /// Its rollback is queued.
    RollBack,
    /// Its rollback succeeded.
    Undo,
    /// Its rollback failed for good.
    GiveUp,
    /// A person asks for it to be tried again.
    Reopen,
}

/// An event that a state does not know: a fault in the caller, or a request that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {what} that is {from} cannot {event}")]
pub struct Illegal {
    /// `run` or `stage`.
    pub what: &'static str,
    /// The state, as text.
    pub from: &'static str,
    /// The event, as text.
    pub event: &'static str,
}

impl RunState {
    /// Whether it is over (a person may still reopen it).
    pub fn is_over(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Running | Self::Sleeping | Self::RollingBack | Self::Diverged | Self::Stuck => false,
        }
    }

    /// The next state.
    ///
    /// # Errors
    /// [`Illegal`] where the state does not know the event; a run that is over ignores late news.
    pub fn after(self, event: RunEvent) -> Result<Self, Illegal> {
        use RunEvent as E;
        Ok(match (self, event) {
            (Self::Pending, E::Start) => Self::Running,
            (Self::Running | Self::Sleeping, E::Complete) => Self::Completed,
            (Self::Running | Self::Sleeping | Self::RollingBack, E::Fail) => Self::Failed,
            // A completed run is undone only where a person asks for it.
            (Self::Running | Self::Sleeping | Self::Completed, E::RollBack) => Self::RollingBack,
            (Self::Pending | Self::Running | Self::Sleeping | Self::Diverged | Self::Stuck, E::Cancel) => {
                Self::Cancelled
            }
            // Reopened runs queue in their group again, so that an old one never overtakes a newer one.
            (Self::Failed | Self::Cancelled, E::Reopen) => Self::Pending,
            // Final is final; late news is no error.
            (Self::Completed | Self::Failed | Self::Cancelled, E::Complete | E::Fail | E::Cancel) => self,
            (from, event) => return Err(Illegal { what: "run", from: run_word(from), event: run_event_word(event) }),
        })
    }
}

impl StageState {
    /// Whether nothing more happens to it by itself while its run goes forward.
    pub fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled | Self::RolledBack => true,
            Self::Pending
            | Self::AwaitingApproval
            | Self::Queued
            | Self::Running
            | Self::Sleeping
            | Self::RollingBack => false,
        }
    }

    /// The next state.
    ///
    /// # Errors
    /// [`Illegal`] where the state does not know the event; a stage that is over ignores late news.
    pub fn after(self, event: StageEvent) -> Result<Self, Illegal> {
        use StageEvent as E;
        Ok(match (self, event) {
            // What was let through goes back to its gate where the approval does not stand any more and nobody has it yet.
            (Self::Pending | Self::Queued, E::Hold) => Self::AwaitingApproval,
            (Self::Pending | Self::AwaitingApproval, E::Queue) => Self::Queued,
            (Self::Pending, E::Skip) => Self::Skipped,
            (Self::AwaitingApproval, E::Reject) => Self::Failed,
            (Self::Pending | Self::AwaitingApproval | Self::Queued, E::Break) => Self::Failed,
            // A stage goes to `running` when its code starts, not when it is claimed.
            (Self::Queued, E::Start) => Self::Running,
            (Self::Queued | Self::Running | Self::Sleeping, E::Succeed) => Self::Succeeded,
            (Self::Queued | Self::Running | Self::Sleeping, E::Fail) => Self::Failed,
            (Self::Queued | Self::Running | Self::Sleeping, E::Retry) => Self::Queued,
            (Self::Pending | Self::AwaitingApproval | Self::Queued | Self::Running | Self::Sleeping, E::Cancel) => {
                Self::Cancelled
            }
            // A stage that failed half-way undoes what it did, too.
            (Self::Succeeded | Self::Failed, E::RollBack) => Self::RollingBack,
            (Self::RollingBack, E::Undo) => Self::RolledBack,
            (Self::RollingBack, E::GiveUp) => Self::Failed,
            // What was undone must be done again before what depends on it can be.
            (Self::Failed | Self::Skipped | Self::Cancelled | Self::RolledBack, E::Reopen) => Self::Pending,
            // Final is final: the runner may not have heard of the cancellation yet.
            (
                Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled | Self::RolledBack,
                E::Succeed | E::Fail | E::Retry | E::Cancel | E::Start,
            ) => self,
            (from, event) => {
                return Err(Illegal { what: "stage", from: stage_word(from), event: stage_event_word(event) });
            }
        })
    }
}

fn run_word(state: RunState) -> &'static str {
    match state {
        RunState::Pending => "pending",
        RunState::Running => "running",
        RunState::Sleeping => "sleeping",
        RunState::RollingBack => "rolling back",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Diverged => "diverged",
        RunState::Stuck => "stuck",
    }
}

fn run_event_word(event: RunEvent) -> &'static str {
    match event {
        RunEvent::Start => "start",
        RunEvent::Complete => "complete",
        RunEvent::Fail => "fail",
        RunEvent::RollBack => "be rolled back",
        RunEvent::Cancel => "be cancelled",
        RunEvent::Reopen => "be retried",
    }
}

fn stage_word(state: StageState) -> &'static str {
    match state {
        StageState::Pending => "pending",
        StageState::AwaitingApproval => "awaiting approval",
        StageState::Queued => "queued",
        StageState::Running => "running",
        StageState::Sleeping => "sleeping",
        StageState::Succeeded => "succeeded",
        StageState::Failed => "failed",
        StageState::Skipped => "skipped",
        StageState::Cancelled => "cancelled",
        StageState::RollingBack => "rolling back",
        StageState::RolledBack => "rolled back",
    }
}

fn stage_event_word(event: StageEvent) -> &'static str {
    match event {
        StageEvent::Hold => "be held",
        StageEvent::Queue => "be queued",
        StageEvent::Skip => "be skipped",
        StageEvent::Reject => "be rejected",
        StageEvent::Break => "be broken off",
        StageEvent::Start => "start",
        StageEvent::Succeed => "succeed",
        StageEvent::Fail => "fail",
        StageEvent::Retry => "be tried again",
        StageEvent::Cancel => "be cancelled",
        StageEvent::RollBack => "be rolled back",
        StageEvent::Undo => "be undone",
        StageEvent::GiveUp => "be given up",
        StageEvent::Reopen => "be retried",
    }
}
