//! Work that one instance does at a time, and not more often than it should: taken for a while, given back with the time
//! of the next turn. Whoever dies with it loses it when the while is over.

use super::{Result, Tx, with_conn};
use crate::model::ids::EntryId;
use crate::model::time::Timestamp;

/// A taken turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    name: &'static str,
    holder: String,
}

impl Tx {
    /// Takes the turn called `name` for `millis`, unless somebody has it or it is not time yet.
    pub async fn take_lease(&mut self, name: &'static str, millis: i64, now: Timestamp) -> Result<Option<Lease>> {
        let sql = "INSERT INTO lease (name, holder, held_until, next_at) VALUES ($1, $2, $3, 0)
                   ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
                   WHERE lease.held_until <= $4 AND lease.next_at <= $4";
        let holder = EntryId::generate().0;
        let until = now.plus_millis(millis);
        let taken = with_conn!(self, conn => {
            sqlx::query(sql).bind(name).bind(&holder).bind(until).bind(now).execute(conn).await?.rows_affected()
        });
        Ok((taken > 0).then_some(Lease { name, holder }))
    }

    /// Gives the turn back; nobody takes the next one before `next_at`.
    pub async fn release_lease(&mut self, lease: &Lease, next_at: Timestamp) -> Result<()> {
        let sql = "UPDATE lease SET holder = NULL, held_until = 0, next_at = $3 WHERE name = $1 AND holder = $2";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(lease.name).bind(&lease.holder).bind(next_at).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Says that instance `id` is up, and answers how many showed that within the last `millis`.
    pub async fn instance_is_up(&mut self, id: &str, millis: i64, now: Timestamp) -> Result<i64> {
        let sql = "INSERT INTO instance (id, seen_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(now).execute(conn).await?.rows_affected());
        let forget = "DELETE FROM instance WHERE seen_at <= $1";
        let before = now.plus_millis(-millis);
        with_conn!(self, conn => sqlx::query(forget).bind(before).execute(conn).await?.rows_affected());
        Ok(with_conn!(self, conn => sqlx::query_scalar("SELECT COUNT(*) FROM instance").fetch_one(conn).await?))
    }
}
