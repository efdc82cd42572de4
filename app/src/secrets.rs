//! Secrets at rest: sealed with XChaCha20-Poly1305 under the instance's master key. What is sealed names the key by its id
//! and is bound to its place, so a ciphertext that was moved to another row or field does not open.

use crate::config::{Config, SecretKey};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::RngCore as _;
use secrecy::{ExposeSecret as _, SecretString};

/// The first byte of what is sealed, should there ever be a second format.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Where a secret belongs: it opens there and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub kind: String,
    /// The row.
    pub owner: String,
    /// The field.
    pub name: String,
}

impl Place {
    /// The field `name` of row `owner` of table `kind`.
    pub fn new(kind: &str, owner: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), owner: owner.to_owned(), name: name.to_owned() }
    }

    /// What the seal covers beside the secret. Lengths stand before the texts, so that no two places have the same.
    fn bound(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for part in [&self.kind, &self.owner, &self.name] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

/// A secret that may be stored. It shows nothing: `Debug` is of bytes nobody can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the key that opens it.
    pub key_id: String,
    /// Format, nonce, ciphertext.
    pub value: Vec<u8>,
}

/// Why a secret did not open, or could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The server has no key.
    #[error(
        "there is no key for secrets at rest; set RIVET_SECRET_KEY, for example to the output of: openssl rand -base64 32"
    )]
    NoKey,
    /// A key is not one.
    #[error("{0}: must be 32 bytes in base64")]
    BadKey(&'static str),
    /// It was sealed with a key this server was not given.
    #[error("a stored secret needs the master key {}…, which this server does not have", .0.chars().take(8).collect::<String>())]
    UnknownKey(String),
    /// It was changed, or moved here from another place.
    #[error("the stored secret '{0}' does not open: it was changed or moved (secret.decrypt_failed)")]
    DoesNotOpen(String),
}

/// The keys of a server: one that seals, and while keys are changed a second one that only opens.
pub struct Keyring {
    current: SecretKey,
    previous: Option<SecretKey>,
}

impl Keyring {
    /// The keys of the settings.
    pub fn of(config: &Config) -> Result<Self, SecretsError> {
        let current = config.secret_key.as_ref().ok_or(SecretsError::NoKey)?;
        let current = SecretKey::parse(current).map_err(|_| SecretsError::BadKey("RIVET_SECRET_KEY"))?;
        let previous = config.previous_secret_key.as_ref().map(SecretKey::parse).transpose();
        let previous = previous.map_err(|_| SecretsError::BadKey("RIVET_PREVIOUS_SECRET_KEY"))?;
        Ok(Self { current, previous })
    }

    /// Of two keys: `current` seals, both open.
    pub fn new(current: SecretKey, previous: Option<SecretKey>) -> Self {
        Self { current, previous }
    }

    /// The id of the key that seals.
    pub fn id(&self) -> String {
        self.current.id()
    }

    /// Whether one of the keys has this id.
    pub fn knows(&self, key_id: &str) -> bool {
        self.current.id() == key_id || self.previous.as_ref().is_some_and(|key| key.id() == key_id)
    }

    /// Seals a secret for its place. Nonces are random: 24 bytes of them do not repeat.
    pub fn seal(&self, place: &Place, plain: &SecretString) -> Result<Sealed, SecretsError> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: plain.expose_secret().as_bytes(), aad: &place.bound() };
        let sealed = cipher(&self.current).encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SecretsError::DoesNotOpen(place.name.clone()))?;
        let mut value = vec![FORMAT];
        value.extend(nonce);
        value.extend(sealed);
        Ok(Sealed { key_id: self.id(), value })
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &Place, sealed: &Sealed) -> Result<SecretString, SecretsError> {
        let keys = [Some(&self.current), self.previous.as_ref()];
        let key = keys.into_iter().flatten().find(|key| key.id() == sealed.key_id);
        let key = key.ok_or_else(|| SecretsError::UnknownKey(sealed.key_id.clone()))?;
        let damaged = || SecretsError::DoesNotOpen(place.name.clone());
        let rest = sealed.value.strip_prefix(&[FORMAT]).ok_or_else(damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: text, aad: &place.bound() };
        let plain = cipher(key).decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())?;
        String::from_utf8(plain).map(SecretString::from).map_err(|_| damaged())
    }
}

fn cipher(key: &SecretKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        use base64::Engine as _;
        SecretKey::parse(&base64::engine::general_purpose::STANDARD.encode([n; 32]).into()).unwrap()
    }

    #[test]
    fn a_secret_opens_at_its_place_with_its_key_and_nowhere_else() {
        let (ring, place) = (Keyring::new(key(1), None), Place::new("github_app", "app", "private_key"));
        let sealed = ring.seal(&place, &"hunter2".into()).unwrap();
        assert_eq!(ring.open(&place, &sealed).unwrap().expose_secret(), "hunter2");
        assert!(!sealed.value.windows(7).any(|bytes| bytes == b"hunter2"));

        for other in [
            Place::new("github_app", "app", "webhook_secret"),
            Place::new("github_app", "other", "private_key"),
            Place::new("github_ap", "papp", "private_key"),
        ] {
            assert_eq!(ring.open(&other, &sealed).unwrap_err(), SecretsError::DoesNotOpen(other.name.clone()));
        }
        for at in 0..sealed.value.len() {
            let mut changed = sealed.clone();
            changed.value[at] ^= 1;
            assert!(ring.open(&place, &changed).is_err(), "byte {at}");
        }
        let short = Sealed { value: sealed.value[..20].to_vec(), ..sealed.clone() };
        assert!(ring.open(&place, &short).is_err());
        let stranger = Keyring::new(key(2), None);
        assert_eq!(stranger.open(&place, &sealed).unwrap_err(), SecretsError::UnknownKey(key(1).id()));
    }

    #[test]
    fn the_previous_key_opens_and_no_longer_seals() {
        let place = Place::new("github_app", "app", "private_key");
        let old = Keyring::new(key(1), None).seal(&place, &"hunter2".into()).unwrap();
        let ring = Keyring::new(key(2), Some(key(1)));
        assert_eq!(ring.open(&place, &old).unwrap().expose_secret(), "hunter2");
        assert_eq!(ring.seal(&place, &"hunter2".into()).unwrap().key_id, key(2).id());
        assert!(ring.knows(&key(1).id()) && ring.knows(&key(2).id()) && !ring.knows(&key(3).id()));
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let (ring, place) = (Keyring::new(key(1), None), Place::new("a", "b", "c"));
        let twice = [(); 2].map(|()| ring.seal(&place, &"hunter2".into()).unwrap().value);
        assert_ne!(twice[0], twice[1]);
    }
}
