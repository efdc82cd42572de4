//! Deliveries a forge tried to make and could not: found in its own list, asked for again, or fetched from there.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

/// A delivery that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Missed {
    /// The delivery's id, in lower case.
    pub guid: String,
    /// The forge's id of its newest try.
    pub hook_id: i64,
    /// The event's name.
    pub event: String,
    /// How often it was asked for.
    pub asked: i64,
}

/// How a missed delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum MissedEnd {
    /// Its payload was taken from the forge's list.
    Fetched,
    /// It cannot be had.
    GivenUp,
}

impl Tx {
    /// Remembers a delivery that did not arrive, unless it did after all or is known. Answers whether it is new.
    pub async fn note_missed(&mut self, missed: &Missed, delivered_at: Timestamp, now: Timestamp) -> Result<bool> {
        let sql = "INSERT INTO missed_delivery (guid, hook_id, event, delivered_at, state, next_at, found_at)
                   SELECT $1, $2, $3, $4, 'open', $5, $5 FROM (SELECT 1 AS one) AS here
                   WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.id = $1)
                   ON CONFLICT (guid) DO NOTHING";
        let new = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&missed.guid).bind(missed.hook_id).bind(&missed.event);
            query.bind(delivered_at).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(new > 0)
    }

    /// Closes the ones that have arrived meanwhile; answers how many.
    pub async fn close_arrived(&mut self) -> Result<u64> {
        let sql = "UPDATE missed_delivery SET state = 'arrived', last_error = NULL WHERE state = 'open'
                   AND EXISTS (SELECT 1 FROM delivery WHERE delivery.id = missed_delivery.guid)";
        Ok(with_conn!(self, conn => sqlx::query(sql).execute(conn).await?.rows_affected()))
    }

    /// The ones to be seen to now, in the order they were made.
    pub async fn open_missed(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Missed>> {
        let sql = "SELECT guid, hook_id, event, asked FROM missed_delivery WHERE state = 'open' AND next_at <= $1
                   ORDER BY delivered_at, hook_id LIMIT $2";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(now).bind(limit).fetch_all(conn).await?))
    }

    /// One was asked for, or that failed; it is looked at again at `next_at`.
    pub async fn missed_asked(&mut self, guid: &str, error: Option<&str>, next_at: Timestamp) -> Result<()> {
        let sql = "UPDATE missed_delivery SET asked = asked + 1, last_error = $2, next_at = $3
                   WHERE guid = $1 AND state = 'open'";
        with_conn!(self, conn => sqlx::query(sql).bind(guid).bind(error).bind(next_at).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Nothing more is to be done about one.
    pub async fn missed_ended(&mut self, guid: &str, end: MissedEnd, error: Option<&str>) -> Result<()> {
        let sql = "UPDATE missed_delivery SET state = $2, last_error = $3 WHERE guid = $1 AND state = 'open'";
        let state = end.to_string();
        with_conn!(self, conn => sqlx::query(sql).bind(guid).bind(state).bind(error).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Forgets the ones found before `before`.
    pub async fn forget_missed(&mut self, before: Timestamp) -> Result<u64> {
        let sql = "DELETE FROM missed_delivery WHERE found_at < $1";
        Ok(with_conn!(self, conn => sqlx::query(sql).bind(before).execute(conn).await?.rows_affected()))
    }

    /// How many missed deliveries are in each state.
    pub async fn count_missed(&mut self) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT state, COUNT(*) FROM missed_delivery GROUP BY state ORDER BY state";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).fetch_all(conn).await?))
    }
}
