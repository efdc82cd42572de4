//! What people and programs can do: one verb, one function, in a file of its own. Comments, buttons, CLI, API and pages all
//! call these.

pub mod append_log;
pub mod approve;
pub mod buttons;
pub mod cancel;
pub mod claim;
pub mod close_pull_request;
pub mod comments;
pub mod environment;
pub mod finish_job;
pub mod heartbeat;
pub mod held;
pub mod let_in;
pub mod outdate;
pub mod people;
pub mod register_runner;
pub mod rerun;
pub mod retry;
pub mod review;
pub mod reviewers;
pub mod rollback;
pub mod runners;
pub mod schedules;
pub mod setup;
pub mod start_job;
pub mod start_run;
