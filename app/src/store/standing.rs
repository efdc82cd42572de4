//! Whether a repository can be used at all: what its forge said of it, and of the installation that gives access to it.

use super::repos::{Repo, repo_columns};
use super::{Error, Result, Tx, with_conn};
use crate::forge::Standing;
use crate::model::ids::{ForgeKind, RepoId};
use crate::model::time::Timestamp;

/// Why nothing may be asked about a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// In one sentence, without its full stop.
    pub why: String,
    /// Whether nothing ends it but being let in anew.
    pub for_good: bool,
    /// Whether commits can be fetched all the same.
    pub readable: bool,
}

#[derive(sqlx::FromRow)]
struct Stands {
    #[sqlx(flatten)]
    repo: Repo,
    standing: Standing,
    suspended: Option<bool>,
    removed: Option<bool>,
}

impl Stands {
    fn silence(&self) -> Option<Silence> {
        let silence = |why: String, for_good, readable| Some(Silence { why, for_good, readable });
        let id = self.repo.installation_id.unwrap_or_default();
        match (self.standing, self.removed, self.suspended) {
            (Standing::Deleted, _, _) => silence("the repository was deleted".to_owned(), true, false),
            (_, Some(true), _) => silence(format!("installation {id} of the App was removed"), true, false),
            (_, _, Some(true)) => silence(format!("installation {id} of the App is suspended"), false, false),
            (Standing::Archived, _, _) => silence("the repository is archived".to_owned(), false, true),
            (Standing::Active, _, _) => None,
        }
    }
}

/// How a repository stands, as columns beside those of something else of it.
#[derive(sqlx::FromRow)]
pub(super) struct StandsBeside {
    #[sqlx(rename = "repo_id")]
    id: RepoId,
    #[sqlx(rename = "repo_forge")]
    forge: ForgeKind,
    #[sqlx(rename = "repo_forge_id")]
    forge_id: i64,
    #[sqlx(rename = "repo_owner")]
    owner: String,
    #[sqlx(rename = "repo_name")]
    name: String,
    #[sqlx(rename = "repo_default_branch")]
    default_branch: String,
    #[sqlx(rename = "repo_private")]
    private: bool,
    #[sqlx(rename = "repo_installation_id")]
    installation_id: Option<i64>,
    #[sqlx(rename = "repo_enabled")]
    enabled: bool,
    #[sqlx(rename = "repo_created_at")]
    created_at: Timestamp,
    #[sqlx(rename = "repo_standing")]
    standing: Standing,
    #[sqlx(rename = "repo_suspended")]
    suspended: Option<bool>,
    #[sqlx(rename = "repo_removed")]
    removed: Option<bool>,
}

/// The columns of [`StandsBeside`] but `repo_id`, which stands beside them anyway; of a join with `repo`.
macro_rules! stands_beside {
    () => {
        "repo.forge AS repo_forge, repo.forge_id AS repo_forge_id, repo.owner AS repo_owner, repo.name AS repo_name,
         repo.default_branch AS repo_default_branch, repo.private AS repo_private,
         repo.installation_id AS repo_installation_id, repo.enabled AS repo_enabled,
         repo.created_at AS repo_created_at, repo.standing AS repo_standing,
         (SELECT suspended FROM installation WHERE installation.id = repo.installation_id) AS repo_suspended,
         (SELECT removed FROM installation WHERE installation.id = repo.installation_id) AS repo_removed"
    };
}
pub(super) use stands_beside;

impl StandsBeside {
    /// The repository, and why nothing may be asked about it, if that is so.
    pub(super) fn into_repo(self) -> (Repo, Option<Silence>) {
        let repo = Repo {
            id: self.id,
            forge: self.forge,
            forge_id: self.forge_id,
            owner: self.owner,
            name: self.name,
            default_branch: self.default_branch,
            private: self.private,
            installation_id: self.installation_id,
            enabled: self.enabled,
            created_at: self.created_at,
        };
        let stands = Stands { repo, standing: self.standing, suspended: self.suspended, removed: self.removed };
        let silence = stands.silence();
        (stands.repo, silence)
    }
}

impl Tx {
    /// Remembers how a repository stands.
    pub async fn set_standing(&mut self, repo: &RepoId, standing: Standing, now: Timestamp) -> Result<()> {
        let sql = "UPDATE repo SET standing = $2, updated_at = $3 WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(repo).bind(standing).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// A repository, and why nothing may be asked about it or told about it, if that is so.
    pub async fn usable_repo(&mut self, repo: &RepoId) -> Result<(Repo, Option<Silence>)> {
        let sql = concat!(
            "SELECT ",
            repo_columns!(),
            ", standing,
             (SELECT suspended FROM installation WHERE installation.id = repo.installation_id) AS suspended,
             (SELECT removed FROM installation WHERE installation.id = repo.installation_id) AS removed
             FROM repo WHERE id = $1"
        );
        let found: Option<Stands> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(repo).fetch_optional(conn).await?);
        let found = found.ok_or(Error::NotFound)?;
        let silence = found.silence();
        Ok((found.repo, silence))
    }

    /// Lets what was not told, because nothing could be, be told now: of one repository, or of all of an installation.
    pub async fn reports_go_on(
        &mut self,
        repo: Option<&RepoId>,
        installation: Option<i64>,
        now: Timestamp,
    ) -> Result<u64> {
        let sql = "UPDATE report SET open = TRUE, attempts = 0, next_try_at = $3
                   WHERE substr(last_error, 1, 9) = 'not told:' AND wanted IS DISTINCT FROM told
                   AND (repo_id = $1 OR repo_id IN (SELECT id FROM repo WHERE installation_id = $2))";
        Ok(with_conn!(self, conn => {
            sqlx::query(sql).bind(repo).bind(installation).bind(now).execute(conn).await?.rows_affected()
        }))
    }

    /// Lets jobs that rest, because nothing could be asked about their repository, be claimed now.
    pub async fn jobs_go_on(&mut self, installation: i64, now: Timestamp) -> Result<u64> {
        let sql = "UPDATE job SET available_at = $2 WHERE state = 'queued' AND available_at > $2
                   AND repo_id IN (SELECT id FROM repo WHERE installation_id = $1)";
        Ok(with_conn!(self, conn => sqlx::query(sql).bind(installation).bind(now).execute(conn).await?.rows_affected()))
    }
}
