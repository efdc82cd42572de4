//! Commands in comments and buttons on checks: conversations on a pull request, each with the wrong person, the wrong
//! commit, the wrong place.

#[path = "comments/buttons.rs"]
mod buttons;
#[path = "comments/catalogue.rs"]
mod catalogue;
#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;
#[path = "comments/once.rs"]
mod once;
#[path = "comments/scene.rs"]
mod scene;
#[path = "comments/talk.rs"]
mod talk;
