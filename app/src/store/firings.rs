//! Firings: one row for each due time of a schedule, from when it passes until what became of it is forgotten.

use super::{Result, Tx, with_conn};
use crate::model::ids::{RunId, ScheduleId};
use crate::model::schedule::{Firing, FiringState};
use crate::model::time::Timestamp;

/// How long one instance has a firing for itself.
const CLAIM_MILLIS: i64 = 60_000;

impl Tx {
    /// Writes down that a schedule was due; a time that is written down already stays as it is.
    pub async fn add_firing(&mut self, firing: &Firing, now: Timestamp) -> Result<()> {
        let sql =
            "INSERT INTO firing (schedule_id, due_at, state, reason, available_at, created_at, done_at, missed_since)
                   VALUES ($1, $2, $3, $4, $5, $5, $6, $7) ON CONFLICT (schedule_id, due_at) DO NOTHING";
        let done = (firing.state != FiringState::Pending).then_some(now);
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&firing.schedule_id).bind(firing.due_at).bind(firing.state);
            query.bind(&firing.reason).bind(now).bind(done).bind(firing.missed_since).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Takes firings whose runs are to be started, each for one instance: of a schedule only the newest.
    pub async fn claim_firings(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Firing>> {
        let sql = if self.is_postgres() {
            "UPDATE firing SET available_at = $2, attempts = attempts + 1 WHERE (schedule_id, due_at) IN (
                 SELECT f.schedule_id, f.due_at FROM firing f WHERE f.state = 'pending' AND f.available_at <= $1
                 AND NOT EXISTS (SELECT 1 FROM firing n WHERE n.schedule_id = f.schedule_id AND n.due_at > f.due_at
                                 AND n.state = 'pending')
                 ORDER BY f.due_at, f.schedule_id LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING schedule_id, due_at, state, reason, missed_since, run_id, attempts"
        } else {
            "UPDATE firing SET available_at = $2, attempts = attempts + 1 WHERE (schedule_id, due_at) IN (
                 SELECT f.schedule_id, f.due_at FROM firing f WHERE f.state = 'pending' AND f.available_at <= $1
                 AND NOT EXISTS (SELECT 1 FROM firing n WHERE n.schedule_id = f.schedule_id AND n.due_at > f.due_at
                                 AND n.state = 'pending')
                 ORDER BY f.due_at, f.schedule_id LIMIT $3)
             RETURNING schedule_id, due_at, state, reason, missed_since, run_id, attempts"
        };
        let until = now.plus_millis(CLAIM_MILLIS);
        let mut taken: Vec<Firing> = with_conn!(self, conn => {
            sqlx::query_as(sql).bind(now).bind(until).bind(limit).fetch_all(conn).await?
        });
        taken.sort_by(|a, b| (a.due_at, &a.schedule_id).cmp(&(b.due_at, &b.schedule_id)));
        Ok(taken)
    }

    /// Ends a firing, and with it the ones before it that never began. `false`: it had ended already.
    pub async fn finish_firing(
        &mut self,
        firing: &Firing,
        state: FiringState,
        reason: &str,
        run: Option<&RunId>,
        now: Timestamp,
    ) -> Result<bool> {
        let sql = "UPDATE firing SET state = $3, reason = $4, run_id = $5, done_at = $6
                   WHERE schedule_id = $1 AND due_at = $2 AND state = 'pending'";
        let older = "UPDATE firing SET state = 'skipped', done_at = $4,
                         reason = 'The schedule was due again before this firing could start a run. ' || $3
                     WHERE schedule_id = $1 AND due_at < $2 AND state = 'pending'";
        let (id, due) = (&firing.schedule_id, firing.due_at);
        let changed = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(id).bind(due).bind(state).bind(reason).bind(run).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        if changed == 0 {
            return Ok(false);
        }
        let made_up = if state == FiringState::Started { "That one made up for it." } else { "" };
        with_conn!(self, conn => {
            sqlx::query(older).bind(id).bind(due).bind(made_up).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(true)
    }

    /// Puts a firing off until `at`, and says why.
    pub async fn postpone_firing(&mut self, firing: &Firing, reason: &str, at: Timestamp) -> Result<()> {
        let sql = "UPDATE firing SET available_at = $3, reason = $4
                   WHERE schedule_id = $1 AND due_at = $2 AND state = 'pending'";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&firing.schedule_id).bind(firing.due_at).bind(at).bind(reason);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Leaves out what a schedule has not started yet.
    pub async fn skip_firings(&mut self, schedule: &ScheduleId, reason: &str, now: Timestamp) -> Result<()> {
        let sql = "UPDATE firing SET state = 'skipped', reason = $2, done_at = $3
                   WHERE schedule_id = $1 AND state = 'pending'";
        with_conn!(self, conn => sqlx::query(sql).bind(schedule).bind(reason).bind(now).execute(conn).await?
            .rows_affected());
        Ok(())
    }

    /// The firings of a schedule, newest first.
    pub async fn firings_of(&mut self, schedule: &ScheduleId, limit: i64) -> Result<Vec<Firing>> {
        let sql = "SELECT schedule_id, due_at, state, reason, missed_since, run_id, attempts FROM firing WHERE schedule_id = $1
                   ORDER BY due_at DESC LIMIT $2";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(schedule).bind(limit).fetch_all(conn).await?))
    }

    /// Removes firings that ended and were due before `before`, and decisions of that age that belong to no delivery;
    /// answers how many. A schedule's last firing stays, for people ask what became of it.
    pub async fn remove_old_firings(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let firings = "DELETE FROM firing WHERE (schedule_id, due_at) IN (
                           SELECT f.schedule_id, f.due_at FROM firing f JOIN schedule s ON s.id = f.schedule_id
                           WHERE f.created_at < $1 AND f.state <> 'pending' AND f.due_at <> s.last_due_at LIMIT $2)";
        let decisions = "DELETE FROM decision WHERE id IN (
                             SELECT id FROM decision WHERE delivery_id IS NULL AND created_at < $1 LIMIT $2)";
        let mut gone = 0;
        for sql in [firings, decisions] {
            gone += with_conn!(self, conn => {
                sqlx::query(sql).bind(before).bind(limit).execute(conn).await?.rows_affected()
            });
        }
        Ok(gone)
    }
}
