//! Whether a repository can be used at all: what its forge said of it, and of the installation that gives access to it.

use super::repos::{Repo, repo_columns};
use super::{Error, Result, Tx, with_conn};
use crate::forge::Standing;
use crate::model::ids::RepoId;
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
