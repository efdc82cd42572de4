//! What happens without anybody asking: passes over what the database says is due. Each may be killed anywhere and run
//! again, and two instances may run it at once; [`supervisor`] loops them.

pub mod advance;
pub mod app;
mod asked;
pub mod cron;
pub mod decide;
pub mod inquiry;
pub mod intake;
pub mod launch;
pub mod planner;
pub mod policies;
pub mod prepare;
pub mod quota;
pub mod reaper;
pub mod recheck;
pub mod reconcile;
mod record;
pub mod reporter;
pub mod repositories;
pub mod required;
pub mod retention;
pub mod revoker;
pub mod scheduler;
mod standing;
pub mod supervisor;
pub mod sweep;
pub mod trust;

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left that is due.
    Idle,
    /// It did something; there may be more.
    Worked,
}
