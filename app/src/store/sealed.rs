//! What is encrypted at rest, by its place. What it says only `secrets` can tell.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;
use crate::secrets::{Place, Sealed};

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    owner: String,
    name: String,
    key_id: String,
    value: Vec<u8>,
}

impl Tx {
    /// Keeps a secret, in place of the one that was there.
    pub async fn save_sealed(&mut self, place: &Place, sealed: &Sealed, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO sealed (kind, owner, name, key_id, value, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (kind, owner, name) DO UPDATE SET key_id = excluded.key_id, value = excluded.value,
                       updated_at = excluded.updated_at";
        with_conn!(self, conn => sqlx::query(sql)
            .bind(&place.kind)
            .bind(&place.owner)
            .bind(&place.name)
            .bind(&sealed.key_id)
            .bind(&sealed.value)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// The secret of a place.
    pub async fn sealed(&mut self, place: &Place) -> Result<Option<Sealed>> {
        let sql = "SELECT kind, owner, name, key_id, value FROM sealed WHERE kind = $1 AND owner = $2 AND name = $3";
        let row: Option<Row> = with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(&place.kind).bind(&place.owner).bind(&place.name);
            query.fetch_optional(conn).await?
        });
        Ok(row.map(|row| Sealed { key_id: row.key_id, value: row.value }))
    }

    /// Forgets every secret of a row.
    pub async fn remove_sealed(&mut self, kind: &str, owner: &str) -> Result<()> {
        let sql = "DELETE FROM sealed WHERE kind = $1 AND owner = $2";
        with_conn!(self, conn => sqlx::query(sql).bind(kind).bind(owner).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Forgets the secret of a place.
    pub async fn remove_sealed_at(&mut self, place: &Place) -> Result<()> {
        let sql = "DELETE FROM sealed WHERE kind = $1 AND owner = $2 AND name = $3";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&place.kind).bind(&place.owner).bind(&place.name);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Some secrets that were sealed with another key than `key_id`.
    pub async fn sealed_otherwise(&mut self, key_id: &str, limit: i64) -> Result<Vec<(Place, Sealed)>> {
        let sql = "SELECT kind, owner, name, key_id, value FROM sealed WHERE key_id <> $1
                   ORDER BY kind, owner, name LIMIT $2";
        let rows: Vec<Row> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(key_id).bind(limit).fetch_all(conn).await?);
        let pair = |row: Row| {
            let place = Place { kind: row.kind, owner: row.owner, name: row.name };
            (place, Sealed { key_id: row.key_id, value: row.value })
        };
        Ok(rows.into_iter().map(pair).collect())
    }

    /// How many secrets each key has sealed.
    pub async fn sealed_by_key(&mut self) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT key_id, count(*) FROM sealed GROUP BY key_id ORDER BY key_id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).fetch_all(conn).await?))
    }

    /// Puts the same secret, sealed anew, in place of `old`; `false` where it was changed meanwhile.
    pub async fn reseal(&mut self, place: &Place, old: &Sealed, new: &Sealed, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE sealed SET key_id = $4, value = $5, updated_at = $6
                   WHERE kind = $1 AND owner = $2 AND name = $3 AND value = $7";
        let done = with_conn!(self, conn => sqlx::query(sql)
            .bind(&place.kind)
            .bind(&place.owner)
            .bind(&place.name)
            .bind(&new.key_id)
            .bind(&new.value)
            .bind(now)
            .bind(&old.value)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(done == 1)
    }
}
