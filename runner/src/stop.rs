//! Why a job has to stop before its end, told to everything that works for it.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Why a job stops early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody cancelled it.
    Cancelled,
    /// The stage's time is up.
    TimedOut,
    /// Its log is as long as a log may be.
    LogLimit,
    /// Whoever runs this runner stopped it.
    RunnerStopped,
}

/// A request to stop, shared by everything that works for one job. The first reason stands.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<Option<StopReason>>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Stop {
    /// Asks for the end; later reasons change nothing.
    pub fn request(&self, reason: StopReason) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(reason);
            }
            first
        });
    }

    /// Why it has to stop, if it has to.
    pub fn reason(&self) -> Option<StopReason> {
        *self.0.borrow()
    }

    /// Waits until it has to stop.
    pub async fn requested(&self) -> StopReason {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(reason) = *receiver.borrow_and_update() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                // Cannot be: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}
