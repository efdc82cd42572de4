//! The contract of Rivet: what authors write, what the app plans, what runners are handed.

pub mod belongs;
mod cats;
pub mod cron;
mod decide;
pub mod evaluate;
pub mod expand;
pub mod glob;
pub mod inputs;
pub mod instantiate;
pub mod lua;
pub mod lua_pattern;
pub mod matrix;
pub mod plan;
pub mod problem;
pub mod protocol;
mod raw;
pub mod render;
pub mod schema;
mod shell;
pub mod stubs;
pub mod suggest;
pub mod templates;
mod toml_front;
pub mod trigger;
pub mod validate;
