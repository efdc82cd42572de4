//! The definitions `rivet init` starts people off with.

/// `.rivet/ci.lua`.
pub const LUA: &str = include_str!("../templates/ci.lua");
/// `.rivet/ci.toml`: the same in TOML.
pub const TOML: &str = include_str!("../templates/ci.toml");

/// Every template: its name, the file it becomes, and its text. The first is the default.
pub const TEMPLATES: &[(&str, &str, &str)] = &[("lua", ".rivet/ci.lua", LUA), ("toml", ".rivet/ci.toml", TOML)];
