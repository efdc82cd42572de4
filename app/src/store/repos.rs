//! Repositories, keyed by the forge's numeric id: a rename or a transfer changes a row and nothing else.

use super::{Error, Result, Tx, with_conn};
use crate::forge::RepoFacts;
use crate::model::ids::{ForgeKind, RepoId};
use crate::model::time::Timestamp;

/// A repository as stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Repo {
    /// Our id of it.
    pub id: RepoId,
    /// Which forge.
    pub forge: ForgeKind,
    /// Its numeric id there.
    pub forge_id: i64,
    /// The owner's login.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Its default branch.
    pub default_branch: String,
    /// Whether it is private.
    pub private: bool,
    /// The installation that gives access.
    pub installation_id: Option<i64>,
    /// Whether its events start pipelines.
    pub enabled: bool,
    /// When Rivet first heard of it.
    pub created_at: Timestamp,
}

/// What every query of this file answers.
macro_rules! repo_columns {
    () => {
        "id, forge, forge_id, owner, name, default_branch, private, installation_id, enabled, created_at"
    };
}
pub(super) use repo_columns;

impl Repo {
    /// `owner/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// What the forge is asked with.
    pub fn facts(&self) -> RepoFacts {
        RepoFacts {
            forge: self.forge,
            forge_id: self.forge_id,
            owner: self.owner.clone(),
            name: self.name.clone(),
            default_branch: self.default_branch.clone(),
            private: self.private,
            installation_id: self.installation_id,
        }
    }
}

impl Tx {
    /// Stores what the forge last said of a repository, and answers the row. A default branch or an installation the
    /// delivery did not tell of stays what it was; another default branch has other schedules.
    pub async fn save_repo(&mut self, facts: &RepoFacts, now: Timestamp) -> Result<Repo> {
        let sql = concat!(
            "INSERT INTO repo (id, forge, forge_id, owner, name, full_name_key, default_branch, private,
                                     installation_id, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
                   ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, name = excluded.name,
                       full_name_key = excluded.full_name_key, private = excluded.private,
                       default_branch = CASE WHEN excluded.default_branch = '' THEN repo.default_branch
                                             ELSE excluded.default_branch END,
                       installation_id = COALESCE(excluded.installation_id, repo.installation_id),
                       definitions_due_at = CASE WHEN excluded.default_branch IN ('', repo.default_branch)
                                                 THEN repo.definitions_due_at ELSE 0 END,
                       updated_at = excluded.updated_at
                   RETURNING ",
            repo_columns!()
        );
        let id = facts.id();
        let key = facts.full_name().to_lowercase();
        // A name it had before still finds it, until somebody else has that name.
        let keep = "INSERT INTO repo_alias (full_name_key, repo_id, since)
                    SELECT full_name_key, id, $3 FROM repo WHERE id = $1 AND full_name_key <> $2
                    ON CONFLICT (full_name_key) DO UPDATE SET repo_id = excluded.repo_id, since = excluded.since";
        with_conn!(self, conn => sqlx::query(keep).bind(&id).bind(&key).bind(now).execute(conn).await?.rows_affected());
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(&id).bind(facts.forge).bind(facts.forge_id);
            let query = query.bind(&facts.owner).bind(&facts.name).bind(&key).bind(&facts.default_branch);
            query.bind(facts.private).bind(facts.installation_id).bind(now).fetch_one(conn).await?
        }))
    }

    /// The repository with this id.
    pub async fn repo(&mut self, id: &RepoId) -> Result<Repo> {
        let sql = concat!("SELECT ", repo_columns!(), " FROM repo WHERE id = $1");
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// The repository called `owner/name`, which has to exist.
    pub async fn repo_named(&mut self, full_name: &str) -> Result<Repo> {
        self.find_repo(full_name).await?.ok_or(Error::NotFound)
    }

    /// The repository called `owner/name`, however its letters are cased, or called so before it was renamed. Of two (one
    /// was renamed away and its name taken again before we heard of it) the one heard of last.
    pub async fn find_repo(&mut self, full_name: &str) -> Result<Option<Repo>> {
        let sql = concat!(
            "SELECT ",
            repo_columns!(),
            " FROM repo
              WHERE full_name_key = $1 OR id IN (SELECT repo_id FROM repo_alias WHERE full_name_key = $1)
              ORDER BY CASE WHEN full_name_key = $1 THEN 0 ELSE 1 END, updated_at DESC, id DESC LIMIT 1"
        );
        let key = full_name.to_lowercase();
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(key).fetch_optional(conn).await?))
    }

    /// Repositories after the one with the id `after`, by id.
    pub async fn repos_after(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<Repo>> {
        let sql = concat!("SELECT ", repo_columns!(), " FROM repo WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(after).bind(limit).fetch_all(conn).await?))
    }

    /// Every repository of a forge.
    pub async fn repos_of(&mut self, forge: ForgeKind) -> Result<Vec<Repo>> {
        let sql = concat!("SELECT ", repo_columns!(), " FROM repo WHERE forge = $1 ORDER BY id");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(forge).fetch_all(conn).await?))
    }

    /// Whether a repository's events start pipelines from now on. One that is enabled is asked for its schedules again.
    pub async fn enable_repo(&mut self, id: &RepoId, enabled: bool, now: Timestamp) -> Result<()> {
        let sql = "UPDATE repo SET enabled = $2, updated_at = $3,
                       definitions_due_at = CASE WHEN $2 AND NOT enabled THEN 0 ELSE definitions_due_at END
                   WHERE id = $1";
        let changed = with_conn!(self, conn => {
            sqlx::query(sql).bind(id).bind(enabled).bind(now).execute(conn).await?.rows_affected()
        });
        if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Marks repositories an installation no longer reaches: their events start nothing until they are reachable again.
    pub async fn disable_repos_of_installation(&mut self, installation: i64, now: Timestamp) -> Result<()> {
        let sql = "UPDATE repo SET enabled = FALSE, updated_at = $2 WHERE installation_id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(installation).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }
}
