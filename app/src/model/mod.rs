//! Data and the rules about it: ids, rows' types, and the one state machine. Nothing here does I/O.

pub mod approval;
pub mod command;
pub mod deployment;
pub mod ids;
pub mod job;
pub mod role;
pub mod run;
pub mod runner;
pub mod schedule;
pub mod settle;
pub mod stage;
pub mod state;
pub mod time;
