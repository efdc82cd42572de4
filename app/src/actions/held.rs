//! Whether a job is the runner's that writes about it, and under the number it says.

use crate::engine::advance;
use crate::model::ids::{JobId, RunnerId};
use crate::model::job::Job;
use crate::model::state::JobState;
use crate::store;
use crate::store::jobs::Hold;

/// Why a runner may not write about a job.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// It does not exist, or is another runner's.
    #[error("There is no such job for this runner.")]
    NotFound,
    /// It was given away since.
    #[error("Job {job} is now at epoch {now}; you hold {held}. Stop the job.")]
    Stale {
        /// Which.
        job: JobId,
        /// Its number now.
        now: i64,
        /// The number the runner holds.
        held: i64,
    },
    /// It is over.
    #[error("Job {job} is over: already {conclusion}.")]
    Finished {
        /// Which.
        job: JobId,
        /// In one word.
        conclusion: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(store::Error),
    /// Its run could not be moved on.
    #[error(transparent)]
    Run(advance::Error),
}

impl From<advance::Error> for HeldError {
    fn from(error: advance::Error) -> Self {
        match error {
            advance::Error::NotFound => Self::NotFound,
            advance::Error::Store(error) => Self::Store(error),
            error @ (advance::Error::Refused(_) | advance::Error::Illegal(_)) => Self::Run(error),
        }
    }
}

impl From<store::Error> for HeldError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::NotFound,
            error @ (store::Error::Conflict
            | store::Error::Illegal(_)
            | store::Error::Damaged(_)
            | store::Error::Database(_)) => Self::Store(error),
        }
    }
}

/// Whether the runner may write about the job at all: it is its own, by the number it says. It may be over.
pub fn owns(job: &Job, hold: &Hold<'_>) -> Result<(), HeldError> {
    if !is_of(job, hold.runner) {
        return Err(HeldError::NotFound);
    }
    if job.epoch != hold.epoch {
        return Err(HeldError::Stale { job: job.id.clone(), now: job.epoch, held: hold.epoch });
    }
    Ok(())
}

/// Whether the runner holds the job: it is its own, by the number it says, and not over.
pub fn holds(job: &Job, hold: &Hold<'_>) -> Result<(), HeldError> {
    owns(job, hold)?;
    match job.state {
        JobState::Claimed | JobState::Running => Ok(()),
        JobState::Finished => Err(finished(job)),
        // Nobody has it, so neither has this runner.
        JobState::Queued => Err(HeldError::NotFound),
    }
}

/// The refusal for a job that is over.
pub fn finished(job: &Job) -> HeldError {
    HeldError::Finished { job: job.id.clone(), conclusion: job.conclusion.clone().unwrap_or_default() }
}

fn is_of(job: &Job, runner: &RunnerId) -> bool {
    job.runner_id.as_ref() == Some(runner)
}
