//! Deliveries of pushes that were made while no server answered: files below the repositories' folder, which only those
//! who may push can write, taken in when a server is there again.

use super::{ForgeError, LocalForge, away};
use crate::model::ids::ForgeKind;
use crate::model::time::Timestamp;
use crate::store::deliveries::NewDelivery;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A delivery that could not be made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spooled {
    /// Its id.
    pub(super) guid: String,
    /// Its event.
    pub(super) event: String,
    /// The payload, as text.
    pub(super) payload: String,
}

/// The folder.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(".spool")
}

/// Keeps a delivery for later: written whole under another name first, so that nobody reads half of it.
pub(super) fn keep(root: &Path, spooled: &Spooled) -> std::io::Result<()> {
    let folder = folder(root);
    std::fs::create_dir_all(&folder)?;
    let (half, whole) = (folder.join(format!(".{}", spooled.guid)), folder.join(format!("{}.json", spooled.guid)));
    let mut file = std::fs::File::create(&half)?;
    file.write_all(&serde_json::to_vec(spooled)?)?;
    file.sync_all()?;
    std::fs::rename(half, whole)
}

impl LocalForge {
    /// Stores every delivery that waits in the spool, and answers how many there were. A file goes only after the commit
    /// that holds its row; read twice, it is the same delivery.
    pub async fn take_spool(&self, now: Timestamp) -> Result<usize, ForgeError> {
        let mut files = waiting(&folder(&self.root));
        files.sort();
        let mut taken = 0;
        for file in files {
            let Some(spooled) = read(&file) else { continue };
            let row = NewDelivery {
                forge: ForgeKind::Local,
                guid: spooled.guid,
                event: spooled.event,
                headers: BTreeMap::new(),
                payload: spooled.payload.into_bytes(),
                repo_id: None,
                installation_id: None,
                ignored: None,
                received_at: now,
            };
            let mut tx = self.store.begin().await.map_err(away)?;
            tx.record_deliveries(std::slice::from_ref(&row)).await.map_err(away)?;
            tx.commit().await.map_err(away)?;
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(%error, "{} was taken in and cannot be removed", file.display());
            }
            taken += 1;
        }
        Ok(taken)
    }
}

fn waiting(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect()
}

/// What a file holds; one that is no delivery is put aside, where it disturbs no more and can be looked at.
fn read(file: &Path) -> Option<Spooled> {
    let bytes = std::fs::read(file).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(spooled) => Some(spooled),
        Err(error) => {
            tracing::error!(%error, "{} is not a delivery; it is put aside", file.display());
            let _ = std::fs::rename(file, file.with_extension("damaged"));
            None
        }
    }
}
