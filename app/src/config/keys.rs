//! The files of secrets a server makes for itself on its first start, and the key of the stored ones.

use base64::Engine as _;
use rand::RngCore as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The key secrets are encrypted with at rest.
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Reads it from base64.
    pub fn parse(text: &SecretString) -> Result<Self, &'static str> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.expose_secret().trim());
        let bytes: [u8; 32] = bytes.ok().and_then(|b| b.try_into().ok()).ok_or("must be 32 bytes in base64")?;
        Ok(Self(bytes))
    }

    /// The key itself.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells it apart from others without telling anything about it.
    pub fn id(&self) -> String {
        hex::encode(&Sha256::new().chain_update(b"rivet key id").chain_update(self.0).finalize()[..16])
    }
}

/// Whether a key is the one the database's secrets were made with.
pub fn check_key_id(ours: &str, stored: &str) -> Result<(), String> {
    if ours == stored {
        return Ok(());
    }
    let short = |id: &str| id.chars().take(8).collect::<String>();
    Err(format!("master key id {}… does not match the database ({}…); refusing to start", short(ours), short(stored)))
}

/// The secret in `file`, made there (mode 0600) if there is none yet. Answers whether it was made.
pub fn secret_file(file: &Path, make: fn() -> String) -> std::io::Result<(SecretString, bool)> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    match created {
        Ok(mut created) => {
            let secret = make();
            created.write_all(secret.as_bytes())?;
            created.sync_all()?;
            Ok((SecretString::from(secret), true))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok((SecretString::from(std::fs::read_to_string(file)?.trim().to_owned()), false))
        }
        Err(error) => Err(error),
    }
}

/// 32 random bytes as hex digits.
pub fn random_hex() -> String {
    hex::encode(random_bytes())
}

/// 32 random bytes in base64.
pub fn random_base64() -> String {
    base64::engine::general_purpose::STANDARD.encode(random_bytes())
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
