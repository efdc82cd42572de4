//! The contract of Rivet: what authors write, what the app plans, what runners are handed.

pub mod evaluate;
pub mod lua;
pub mod plan;
pub mod problem;
pub mod protocol;
pub mod trigger;
