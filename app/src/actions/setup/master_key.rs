//! Changing the key that secrets are sealed with: one row after the other, so that it may be stopped anywhere and run again.

use crate::config::SecretKey;
use crate::model::time::Timestamp;
use crate::secrets::{Keyring, SecretsError};
use crate::store::settings::SECRET_KEY_ID;
use crate::store::{Store, Tx};

/// How many secrets one transaction seals anew.
const BATCH: i64 = 50;

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// The id of the new key.
    pub key_id: String,
    /// How many secrets were (or are to be) sealed anew.
    pub secrets: i64,
    /// How many had been already.
    pub already: i64,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Neither key opens something.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The database failed.
    #[error("the database: {0}")]
    Store(#[from] crate::store::Error),
}

/// What [`reseal`] would do. Everything is opened, so that a key that is missing is noticed before anything changes.
pub async fn look(store: &Store, keys: &Keyring) -> Result<Resealed, RotateError> {
    let mut tx = store.read().await?;
    for (place, sealed) in tx.sealed_otherwise(&keys.id(), i64::MAX).await? {
        keys.open(&place, &sealed)?;
    }
    counted(&mut tx, keys).await
}

async fn counted(tx: &mut Tx, keys: &Keyring) -> Result<Resealed, RotateError> {
    let counts = tx.sealed_by_key().await?;
    let of = |ours: bool| counts.iter().filter(|(id, _)| (*id == keys.id()) == ours).map(|(_, count)| count).sum();
    Ok(Resealed { key_id: keys.id(), secrets: of(false), already: of(true) })
}

/// Seals everything with the current key of `keys`, then notes that key as the database's.
pub async fn reseal(store: &Store, keys: &Keyring, now: Timestamp) -> Result<Resealed, RotateError> {
    let found = look(store, keys).await?;
    loop {
        let mut tx = store.begin().await?;
        let some = tx.sealed_otherwise(&keys.id(), BATCH).await?;
        for (place, old) in &some {
            let plain = keys.open(place, old)?;
            // Where it was changed meanwhile, the next round finds what it is now.
            tx.reseal(place, old, &keys.seal(place, &plain)?, now).await?;
        }
        if some.is_empty() {
            tx.save_setting(SECRET_KEY_ID, &keys.id(), now).await?;
        }
        tx.commit().await?;
        if some.is_empty() {
            return Ok(found);
        }
    }
}

/// The keys for a change from `old` to `new`.
pub fn keys(old: SecretKey, new: SecretKey) -> Keyring {
    Keyring::new(new, Some(old))
}
