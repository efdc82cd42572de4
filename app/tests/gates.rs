//! The gate against strangers, and approvals: each with the wrong person, the wrong commit, the wrong place.

#[path = "gates/approvals.rs"]
mod approvals;
#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;
#[path = "gates/people.rs"]
mod people;
#[path = "gates/policy.rs"]
mod policy;
#[path = "gates/strangers.rs"]
mod strangers;
