//! Setting an instance up as a GitHub App, on both databases, over real HTTP, against a GitHub that checks what it is asked.

#[path = "../support/databases.rs"]
mod databases;
#[path = "../support/fake_github/mod.rs"]
mod fake_github;

mod browser;
mod doctor;
mod first_run;
mod in_use;
mod page;
mod world;
