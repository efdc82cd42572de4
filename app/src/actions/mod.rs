//! What people and programs can do: one verb, one function, in a file of its own. Comments, buttons, CLI, API and pages all
//! call these.

pub mod approve;
pub mod cancel;
pub mod close_pull_request;
pub mod rerun;
pub mod retry;
pub mod start_run;
