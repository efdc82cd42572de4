//! The runner protocol, spoken over the real router with real databases behind it.

mod claims;
#[path = "../support/databases.rs"]
mod databases;
mod gate;
mod jobs;
mod logs;
mod registration;
mod world;
