//! Rivet's app: control plane, command line and web pages. ARCHITECTURE.md has the map.

pub mod actions;
pub mod cli;
pub mod config;
pub mod context;
pub mod definitions;
pub mod engine;
pub mod evaluator;
pub mod forge;
pub mod http;
pub mod metrics;
pub mod model;
pub mod secrets;
pub mod store;
pub mod ui;
