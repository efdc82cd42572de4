//! The App in use: put in at the start, or whenever one is set up or changed, while everything else runs on.

use super::Github;
use crate::model::time::Timestamp;
use secrecy::SecretString;
use std::sync::{Arc, PoisonError, RwLock};

/// Where the App comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The settings name it; nothing that is stored changes that.
    Settings,
    /// It was set up on the page: the revision that was loaded.
    Stored(String),
}

/// A secret deliveries may be signed with.
#[derive(Clone)]
pub struct Accepted {
    /// The secret.
    pub secret: SecretString,
    /// Not after this; `None`: as long as the App is used.
    pub until: Option<Timestamp>,
}

/// An App, ready to be used.
pub struct InUse {
    /// Talks to GitHub as it.
    pub client: Arc<Github>,
    /// Where it comes from.
    pub origin: Origin,
    /// What its deliveries may be signed with.
    pub accepted: Vec<Accepted>,
}

/// Holds the App in use, if there is one. Cheap to clone; every clone is the same slot.
#[derive(Clone, Default)]
pub struct Slot(Arc<RwLock<Option<Arc<InUse>>>>);

impl Slot {
    /// The App in use.
    pub fn in_use(&self) -> Option<Arc<InUse>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What talks to GitHub.
    pub fn client(&self) -> Option<Arc<Github>> {
        self.in_use().map(|app| app.client.clone())
    }

    /// What deliveries may be signed with now.
    pub fn secrets(&self, now: Timestamp) -> Vec<SecretString> {
        let app = self.in_use();
        let accepted = app.iter().flat_map(|app| app.accepted.iter());
        accepted.filter(|one| one.until.is_none_or(|until| until > now)).map(|one| one.secret.clone()).collect()
    }

    /// Uses another App from now on, or none.
    pub fn put(&self, app: Option<InUse>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = app.map(Arc::new);
    }
}

impl From<Github> for Slot {
    /// An App of the settings.
    fn from(client: Github) -> Self {
        let slot = Self::default();
        slot.put(Some(InUse { client: Arc::new(client), origin: Origin::Settings, accepted: vec![] }));
        slot
    }
}
