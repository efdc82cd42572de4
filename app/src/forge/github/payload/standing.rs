//! Deliveries about what stands: installations, repositories, refs and merge groups that come and go.

use super::{Event, FieldProblem, POSITIVE, Parsed, Source, clean, sha, unused};
use crate::forge::{InstallationEvent, Standing};
use serde_json::Value;

impl Source<'_> {
    pub(super) fn installation(&self) -> Parsed<Event> {
        let (suspended, removed) = match self.action() {
            "created" | "unsuspend" | "new_permissions_accepted" => (false, false),
            "suspend" => (true, false),
            "deleted" => (false, true),
            other => return Ok(unused(&format!("installation.{other}"))),
        };
        let id = self.installation_id().ok_or_else(|| FieldProblem::new("installation.id", POSITIVE))?;
        let (repositories, lost) = match removed {
            true => (vec![], self.listed(self.payload.repositories.as_ref())?),
            false => (self.listed(self.payload.repositories.as_ref())?, vec![]),
        };
        let account = self.account();
        Ok(Event::Installation(Box::new(InstallationEvent { id, account, suspended, removed, repositories, lost })))
    }

    pub(super) fn installation_repositories(&self) -> Parsed<Event> {
        let id = self.installation_id().ok_or_else(|| FieldProblem::new("installation.id", POSITIVE))?;
        let suspended = self.payload.installation.as_ref().and_then(|i| i.suspended_at.as_ref());
        Ok(Event::Installation(Box::new(InstallationEvent {
            id,
            account: self.account(),
            suspended: suspended.is_some_and(|at| !at.is_null()),
            removed: false,
            repositories: self.listed(self.payload.repositories_added.as_ref())?,
            lost: self.listed(self.payload.repositories_removed.as_ref())?,
        })))
    }

    pub(super) fn repository_event(&self) -> Parsed<Event> {
        let standing = match self.action() {
            "archived" => Standing::Archived,
            "deleted" => Standing::Deleted,
            "unarchived" | "created" => Standing::Active,
            "edited" | "privatized" | "publicized" | "renamed" | "transferred" => {
                return Ok(Event::Repository(self.repo()?));
            }
            other => return Ok(unused(&format!("repository.{other}"))),
        };
        Ok(Event::RepositoryStands { repo: self.repo()?, standing })
    }

    /// A branch or tag is gone. Pushes tell of it too, and are ignored: this event has the same to say once more.
    pub(super) fn deletion(&self) -> Parsed<Event> {
        let repo = self.repo()?;
        let name = clean(self.payload.r#ref.as_deref().unwrap_or_default());
        if name.is_empty() {
            return Err(FieldProblem::new("ref", "must be the name of a branch or a tag"));
        }
        match self.payload.ref_type.as_deref() {
            Some("branch") => Ok(Event::RefDeleted { repo, git_ref: format!("refs/heads/{name}") }),
            Some("tag") => Ok(Event::RefDeleted { repo, git_ref: format!("refs/tags/{name}") }),
            Some(_) | None => Ok(unused("delete of neither a branch nor a tag")),
        }
    }

    pub(super) fn merge_group_destroyed(&self) -> Parsed<Event> {
        let group = self.payload.merge_group.as_ref();
        let group = group.ok_or_else(|| FieldProblem::new("merge_group", "must be present"))?;
        let head_sha = sha(group.head_sha.as_deref(), "merge_group.head_sha")?;
        let reason = clean(self.payload.reason.as_ref().and_then(Value::as_str).unwrap_or("destroyed"));
        Ok(Event::MergeGroupDestroyed { repo: self.repo()?, sha: head_sha, reason })
    }
}
