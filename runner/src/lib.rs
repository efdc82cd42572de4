//! Claims jobs from a Rivet server and executes them.
//!
//! [`agent`] supervises: it registers, claims, keeps leases alive and ships logs. Each job runs in a process of its own
//! ([`job`]), which does one [`attempt`]: workspace, checkout, then the stage's script or lines on an [`executor`].
//! The job process never sees the runner's credentials; the agent never runs what an author wrote.

pub mod agent;
pub mod attempt;
mod checkout;
pub mod cli;
pub mod client;
pub mod config;
pub mod credentials;
pub mod doctor;
pub mod executor;
mod facts;
pub mod job;
pub mod log;
mod logs;
pub mod processes;
pub mod redact;
mod script;
pub mod stop;
mod supervise;
pub mod workspace;

pub use attempt::run_local;
pub use config::{RunnerConfig, Timers};
pub use facts::ENVIRONMENT as FACT_NAMES;
pub use job::job_main;
