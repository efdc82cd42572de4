//! The Lua front end.

pub mod modules;
