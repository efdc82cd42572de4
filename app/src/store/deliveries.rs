//! Deliveries: stored verbatim before anything else happens, taken by intake one by one, kept for `why`.

use super::{Error, Json, Pool, Result, Store, Tx, with_conn};
use crate::model::ids::{DeliveryId, ForgeKind, RepoId};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// How long a delivery that was taken stays hidden from others: longer than any pass works on one.
pub const CLAIM_MILLIS: i64 = 30_000;
/// With so many bytes of payload taken, no further delivery is: what is taken together is in memory together.
pub const CLAIM_BYTES: i64 = 8 << 20;
/// Tries after which a delivery that cannot be processed is put aside for a person.
pub const MAX_ATTEMPTS: i64 = 5;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum DeliveryState {
    /// Stored, not decided about yet.
    Pending,
    /// Decided about; the decisions tell what came of it.
    Done,
    /// Of no use; the reason tells why.
    Ignored,
    /// Could not be processed [`MAX_ATTEMPTS`] times.
    Dead,
}

/// A delivery about to be stored.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// From which forge.
    pub forge: ForgeKind,
    /// The forge's own id of it, in lower case; it is our id too.
    pub guid: String,
    /// The event's name.
    pub event: String,
    /// Its headers without the signature.
    pub headers: BTreeMap<String, String>,
    /// Its bytes as they were authenticated.
    pub payload: Vec<u8>,
    /// The repository it is about.
    pub repo_id: Option<RepoId>,
    /// The installation it came through: of a suspended or removed one it is ignored.
    pub installation_id: Option<i64>,
    /// Why it is of no use, where that is known already.
    pub ignored: Option<String>,
    /// When it came.
    pub received_at: Timestamp,
}

/// A stored delivery.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Delivery {
    /// Its id, which is the forge's own.
    pub id: DeliveryId,
    /// From which forge.
    pub forge: ForgeKind,
    /// The forge's own id of it.
    pub guid: String,
    /// The event's name.
    pub event: String,
    /// Its headers without the signature.
    pub headers: Json<BTreeMap<String, String>>,
    /// Its bytes as they were authenticated.
    pub payload: Vec<u8>,
    /// The repository it is about.
    pub repo_id: Option<RepoId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it is ignored or dead, or what went wrong last.
    pub reason: Option<String>,
    /// How often it was taken.
    pub attempts: i64,
    /// How often it was put off because the forge had not worked something out yet.
    pub waits: i64,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was decided about.
    pub done_at: Option<Timestamp>,
}

/// A delivery as lists show it: without its bytes.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// From which forge.
    pub forge: ForgeKind,
    /// The event's name.
    pub event: String,
    /// The repository it is about.
    pub repo_id: Option<RepoId>,
    /// Its name, `owner/name`, where it is known.
    pub repo: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason: Option<String>,
    /// How often it was taken.
    pub attempts: i64,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was decided about.
    pub done_at: Option<Timestamp>,
}

/// Which deliveries to list; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only about this repository.
    pub repo: Option<RepoId>,
    /// Only of this event.
    pub event: Option<String>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
}

macro_rules! row_columns {
    () => {
        "SELECT delivery.id, delivery.forge, event, repo_id, repo.owner || '/' || repo.name AS repo, state, reason,
                attempts, received_at, done_at
         FROM delivery LEFT JOIN repo ON repo.id = delivery.repo_id"
    };
}

/// The most rows one statement stores.
pub const MOST_AT_ONCE: usize = 64;

/// The statement for each number of rows: one round trip and one commit for all of them, and it stays prepared.
static INSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (0..=MOST_AT_ONCE).map(insert_of).collect());

/// Whether an installation still stands is asked in the statement itself. One that was never heard of is not known to be
/// inactive: the delivery that tells of it may still be on its way.
fn insert_of(rows: usize) -> String {
    const ROW: &str = "($1, $2, $1, $3, $4, $5, $6,
        CASE WHEN EXISTS (SELECT 1 FROM installation i WHERE i.id = $10 AND (i.suspended OR i.removed))
             THEN 'ignored' ELSE $7 END,
        COALESCE($8, CASE WHEN EXISTS (SELECT 1 FROM installation i WHERE i.id = $10 AND (i.suspended OR i.removed))
                          THEN $11 END),
        $9, $9)";
    let mut values = Vec::with_capacity(rows);
    for row in 0..rows {
        // From the last bind on, so that `$1` does not hit the beginning of `$10`.
        let text = (1..=BINDS)
            .rev()
            .fold(ROW.to_owned(), |text, bind| text.replace(&format!("${bind}"), &format!("#{}", row * BINDS + bind)));
        values.push(text.replace('#', "$"));
    }
    format!(
        "INSERT INTO delivery (id, forge, guid, event, headers, payload, repo_id, state, reason, available_at, received_at)
         VALUES {} ON CONFLICT DO NOTHING RETURNING id, reason",
        values.join(", ")
    )
}

const BINDS: usize = 11;

/// A delivery that was not known before, and why it is of no use, if it is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Recorded {
    /// Its id.
    pub id: DeliveryId,
    /// Why it is ignored.
    pub reason: Option<String>,
}

/// Stores at most [`MOST_AT_ONCE`] rows over any connection.
macro_rules! insert {
    ($rows:expr, $conn:expr) => {{
        // The text holds nothing but numbered binds.
        let mut query = sqlx::query_as(AssertSqlSafe(INSERTS[$rows.len()].as_str()));
        for row in $rows {
            let state = if row.ignored.is_some() { DeliveryState::Ignored } else { DeliveryState::Pending };
            let inactive = row.installation_id.map(|id| format!("installation {id} is not active"));
            query = query
                .bind(&row.guid)
                .bind(row.forge)
                .bind(&row.event)
                .bind(Json(&row.headers))
                .bind(row.payload.as_slice())
                .bind(&row.repo_id)
                .bind(state)
                .bind(row.ignored.as_deref())
                .bind(row.received_at)
                .bind(row.installation_id)
                .bind(inactive);
        }
        query.fetch_all($conn).await?
    }};
}

impl Store {
    /// Stores deliveries, each statement its own commit, and answers those that are new, in no certain order. One of two
    /// with the same id is stored.
    pub async fn record_deliveries(&self, batch: &[NewDelivery]) -> Result<Vec<Recorded>> {
        let mut new: Vec<Recorded> = Vec::with_capacity(batch.len());
        for rows in batch.chunks(MOST_AT_ONCE) {
            new.extend::<Vec<Recorded>>(match &self.pool {
                Pool::Postgres(pool) => insert!(rows, pool),
                Pool::Sqlite { write, .. } => insert!(rows, write),
            });
        }
        Ok(new)
    }
}

impl Tx {
    /// The same within a transaction.
    pub async fn record_deliveries(&mut self, batch: &[NewDelivery]) -> Result<Vec<Recorded>> {
        let mut new: Vec<Recorded> = Vec::with_capacity(batch.len());
        for rows in batch.chunks(MOST_AT_ONCE) {
            new.extend::<Vec<Recorded>>(with_conn!(self, conn => insert!(rows, conn)));
        }
        Ok(new)
    }

    /// Takes pending deliveries, at most `limit` and few large ones ([`CLAIM_BYTES`]), for [`CLAIM_MILLIS`]: after that another instance may. The repositories
    /// take turns, so that one's flood holds up nobody else, and of each the oldest goes first.
    pub async fn claim_deliveries(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Delivery>> {
        const CHOSEN: &str = "UPDATE delivery SET available_at = $2, attempts = attempts + 1 WHERE id IN (
             SELECT id FROM delivery WHERE state = 'pending' AND available_at <= $1 AND id IN (
                 SELECT id FROM (
                     SELECT id, SUM(size) OVER (ORDER BY turn, received_at, id ROWS UNBOUNDED PRECEDING) - size AS before
                     FROM (SELECT id, received_at, length(payload) AS size, ROW_NUMBER() OVER (
                               PARTITION BY COALESCE(repo_id, id) ORDER BY received_at, id) AS turn
                           FROM delivery WHERE state = 'pending' AND available_at <= $1
                           ORDER BY turn, received_at, id LIMIT $3) AS first) AS placed
                 WHERE before < $4)";
        let sql = match self {
            Self::Postgres(_) => format!("{CHOSEN} FOR UPDATE SKIP LOCKED) RETURNING *"),
            Self::Sqlite(_) => format!("{CHOSEN}) RETURNING *"),
        };
        let until = now.plus_millis(CLAIM_MILLIS);
        let mut taken: Vec<Delivery> = with_conn!(self, conn => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(now).bind(until).bind(limit);
            query.bind(CLAIM_BYTES).fetch_all(conn).await?
        });
        taken.sort_by(|a, b| (a.received_at, &a.id).cmp(&(b.received_at, &b.id)));
        Ok(taken)
    }

    /// Ends the work on a delivery: `done`, `ignored` or `dead`, with the reason where there is one.
    pub async fn finish_delivery(
        &mut self,
        id: &DeliveryId,
        state: DeliveryState,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "UPDATE delivery SET state = $2, reason = $3, done_at = $4 WHERE id = $1 AND state = 'pending'";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(state).bind(reason).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Puts a delivery that could not be processed back, to be taken again at `at`; after [`MAX_ATTEMPTS`] it is dead.
    pub async fn retry_delivery(
        &mut self,
        delivery: &Delivery,
        reason: &str,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<DeliveryState> {
        if delivery.attempts >= MAX_ATTEMPTS {
            self.finish_delivery(&delivery.id, DeliveryState::Dead, Some(reason), now).await?;
            return Ok(DeliveryState::Dead);
        }
        let sql = "UPDATE delivery SET available_at = $2, reason = $3 WHERE id = $1 AND state = 'pending'";
        with_conn!(self, conn => sqlx::query(sql).bind(&delivery.id).bind(at).bind(reason).execute(conn).await?.rows_affected());
        Ok(DeliveryState::Pending)
    }

    /// Puts a delivery back that waits for the forge: tries lost to an outage do not count against [`MAX_ATTEMPTS`].
    pub async fn postpone_delivery(&mut self, id: &DeliveryId, reason: &str, at: Timestamp) -> Result<()> {
        let sql = "UPDATE delivery SET available_at = $2, reason = $3, attempts = attempts - 1
                   WHERE id = $1 AND state = 'pending'";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(at).bind(reason).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// One delivery with its bytes.
    pub async fn delivery(&mut self, id: &DeliveryId) -> Result<Delivery> {
        let found = with_conn!(self, conn => {
            sqlx::query_as("SELECT * FROM delivery WHERE id = $1").bind(id).fetch_optional(conn).await?
        });
        found.ok_or(Error::NotFound)
    }

    /// Deliveries received before `before` (and, of the same time, with a smaller id), newest first.
    pub async fn deliveries(
        &mut self,
        filter: &DeliveryFilter,
        before: Option<(Timestamp, DeliveryId)>,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>> {
        let (time, id) = before.unwrap_or((Timestamp(i64::MAX), DeliveryId(String::new())));
        let sql = concat!(
            row_columns!(),
            " WHERE (received_at < $1 OR (received_at = $1 AND delivery.id < $2)) AND ($4 IS NULL OR repo_id = $4)
               AND ($5 IS NULL OR event = $5) AND ($6 IS NULL OR state = $6)
             ORDER BY received_at DESC, delivery.id DESC LIMIT $3"
        );
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(time).bind(id).bind(limit).bind(&filter.repo);
            query.bind(&filter.event).bind(filter.state).fetch_all(conn).await?
        }))
    }

    /// One delivery as lists show it.
    pub async fn delivery_row(&mut self, id: &DeliveryId) -> Result<DeliveryRow> {
        let sql = concat!(row_columns!(), " WHERE delivery.id = $1");
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// Lets a delivery be decided about once more; the runs it already started are found again and not repeated.
    pub async fn redeliver(&mut self, id: &DeliveryId, now: Timestamp) -> Result<()> {
        let sql = "UPDATE delivery SET state = 'pending', reason = NULL, attempts = 0, waits = 0, available_at = $2,
                                 done_at = NULL
                   WHERE id = $1";
        let done = with_conn!(self, conn => sqlx::query(sql).bind(id).bind(now).execute(conn).await?.rows_affected());
        if done == 0 { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Whether a delivery was stored, by the forge's own id of it.
    pub async fn knows_delivery(&mut self, forge: ForgeKind, guid: &str) -> Result<bool> {
        let sql = "SELECT count(*) FROM delivery WHERE forge = $1 AND guid = $2";
        let found: i64 =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(forge).bind(guid).fetch_one(conn).await?);
        Ok(found > 0)
    }

    /// How many deliveries wait, for metrics.
    pub async fn pending_deliveries(&mut self) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM delivery WHERE state = 'pending'";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).fetch_one(conn).await?))
    }
}
