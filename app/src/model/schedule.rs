//! Schedules and their firings: an entry of `on.schedule` on a default branch, and each time it was due.

use super::ids::{RepoId, RunId, ScheduleId};
use super::time::Timestamp;
use crate::store::Json;
use chrono_tz::Tz;
use pipelines_spec::cron::{self, Cron};
use pipelines_spec::plan::Pipeline;
use pipelines_spec::trigger;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How late a firing may be taken up and still count as in time: cron knows nothing finer than a minute.
pub const IN_TIME_MILLIS: i64 = 60_000;

/// A schedule as stored.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Where.
    pub repo_id: RepoId,
    /// Which pipeline, by its stem.
    pub pipeline: String,
    /// The expression as its author wrote it.
    pub cron: String,
    /// The zone whose clocks it means.
    pub timezone: String,
    /// Inputs of its runs.
    pub inputs: Json<Map<String, Value>>,
    /// Whether one missed firing is made up after an outage.
    pub catch_up: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// Why the definition it stands in cannot be read now.
    pub problem: Option<String>,
    /// When it fires next.
    pub next_due_at: Option<Timestamp>,
    /// When it was due last.
    pub last_due_at: Option<Timestamp>,
    /// When it was first seen.
    pub created_at: Timestamp,
}

/// One due time.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Firing {
    /// Of which schedule.
    pub schedule_id: ScheduleId,
    /// When it was due.
    pub due_at: Timestamp,
    /// What became of it.
    pub state: FiringState,
    /// Why, in one sentence.
    pub reason: String,
    /// The first of the times before it that nobody was there for, and that it stands for.
    pub missed_since: Option<Timestamp>,
    /// The run it started.
    pub run_id: Option<RunId>,
    /// How often it was tried.
    pub attempts: i64,
}

/// What became of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum FiringState {
    /// Its run is not started yet.
    Pending,
    /// It started a run.
    Started,
    /// It was left out, on purpose.
    Skipped,
    /// It should have started a run and could not.
    Failed,
}

/// Whether a repository's clock times may start anything.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    /// The repository's owner.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Whether it starts pipelines.
    pub enabled: bool,
    /// Whether its installation is suspended.
    pub suspended: Option<bool>,
    /// Whether its installation is gone.
    pub removed: Option<bool>,
}

impl Standing {
    /// Why nothing fires here, with what changes that.
    pub fn blocked(&self) -> Option<String> {
        let repo = format!("{}/{}", self.owner, self.name);
        if self.removed == Some(true) {
            return Some(format!("the GitHub App is no longer installed for {repo}; install it again"));
        }
        if self.suspended == Some(true) {
            let owner = &self.owner;
            return Some(format!("the GitHub App's installation for {repo} is suspended; {owner} can let it go on"));
        }
        (!self.enabled)
            .then(|| format!("{repo} is disabled; 'rivet repo enable {repo}' lets its events start pipelines"))
    }
}

/// What a due schedule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// It fires for this time.
    Fire {
        /// The time.
        at: Timestamp,
        /// The first of the times before it that nobody was there for.
        missed_since: Option<Timestamp>,
    },
    /// This time passed without anybody there, and it is not made up for.
    Missed {
        /// The time.
        at: Timestamp,
    },
    /// It was not due after all: the zone's rules are others than when the time was computed.
    Nothing,
}

/// An entry's expression with its zone.
#[derive(Debug, Clone)]
pub struct Clock {
    cron: Cron,
    tz: Tz,
}

impl Clock {
    /// Reads an expression and a zone.
    pub fn parse(cron: &str, timezone: &str) -> Result<Self, String> {
        let tz = timezone.parse().map_err(|_| format!("'{timezone}' is not a time zone"))?;
        Ok(Self { cron: cron::parse(cron)?, tz })
    }

    /// The first firing after `time`.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.cron.next_after(time.0, self.tz).map(Timestamp)
    }

    /// The next `count` firings after `time`.
    pub fn upcoming(&self, time: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(time), |last| self.next_after(*last)).take(count).collect()
    }

    /// `time` as the zone's clocks show it, RFC 3339 with the offset.
    pub fn local(&self, time: Timestamp) -> String {
        let utc = chrono::DateTime::from_timestamp_millis(time.0).unwrap_or_default();
        utc.with_timezone(&self.tz).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    /// What a schedule that should have fired at `due` does at `now`: at most one firing, for the latest time that passed.
    pub fn due(&self, due: Timestamp, now: Timestamp, catch_up: bool) -> Due {
        let latest = self.cron.latest_in(due.0.saturating_sub(1), now.0, self.tz).map(Timestamp);
        match latest {
            None => Due::Nothing,
            Some(at) if catch_up || now.since(at) < IN_TIME_MILLIS => {
                Due::Fire { at, missed_since: Some(due).filter(|due| *due < at) }
            }
            Some(at) => Due::Missed { at },
        }
    }
}

/// An entry of `on.schedule` as its definition says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The entry.
    pub said: trigger::Schedule,
    /// Its inputs with the secret ones hidden.
    pub shown_inputs: Map<String, Value>,
}

impl Entry {
    /// The entries of a pipeline.
    pub fn all_of(pipeline: &Pipeline) -> Vec<Self> {
        let secret = |name: &str| pipeline.inputs.get(name).is_some_and(|spec| spec.secret);
        let shown = |(name, value): (&String, &Value)| {
            (name.clone(), if secret(name) { Value::from("***") } else { value.clone() })
        };
        let entry = |said: &trigger::Schedule| Self {
            said: said.clone(),
            shown_inputs: said.inputs.iter().map(shown).collect(),
        };
        pipeline.on.schedule.iter().map(entry).collect()
    }

    /// What makes it the same one when its file changes.
    pub fn digest(&self) -> String {
        pipelines_spec::plan::digest(&(&self.said.cron, &self.said.timezone, &self.said.inputs))
    }
}

impl Schedule {
    /// Whether `entry` is this one.
    pub fn is(&self, entry: &trigger::Schedule) -> bool {
        self.cron == entry.cron && self.timezone == entry.timezone && self.inputs.0 == entry.inputs
    }

    /// Its expression and zone.
    pub fn clock(&self) -> Result<Clock, String> {
        Clock::parse(&self.cron, &self.timezone)
    }
}
