//! What is checked about a delivery before anything believes it: signature, then headers, then JSON as such.

use super::refuse;
use crate::http::error::ApiError;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use sha2::Sha256;

const SIGNATURE: &str = "X-Hub-Signature-256";
/// How deep arrays and objects may be nested.
const MAX_DEPTH: usize = 128;

/// The signature a request came with; well-formed, not yet checked.
pub(super) struct Signature([u8; 32]);

impl Signature {
    /// Reads it from the headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = single(headers, SIGNATURE)? else {
            let detail = "Header X-Hub-Signature-256 is required.";
            return Err(refuse(StatusCode::UNAUTHORIZED, "webhook.signature_missing", detail));
        };
        let mut mac = [0; 32];
        let digits = value.strip_prefix(b"sha256=").filter(|digits| digits.len() == 64);
        match digits.map(|digits| hex::decode_to_slice(digits, &mut mac)) {
            Some(Ok(())) => Ok(Self(mac)),
            _ => {
                let detail = "X-Hub-Signature-256 must be 'sha256=' and 64 hex digits.";
                Err(refuse(StatusCode::UNAUTHORIZED, "webhook.signature_malformed", detail))
            }
        }
    }

    /// A check that is fed the body as it comes.
    pub(super) fn checked_with(self, secrets: &[SecretString]) -> Check {
        let macs = secrets.iter().map(|secret| mac_of(secret.expose_secret().as_bytes())).collect();
        Check { macs, expected: self.0 }
    }
}

fn mac_of(secret: &[u8]) -> Hmac<Sha256> {
    match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mac) => mac,
        Err(_) => unreachable!("an HMAC takes keys of every length"),
    }
}

/// A running check of a body.
pub(super) struct Check {
    macs: Vec<Hmac<Sha256>>,
    expected: [u8; 32],
}

impl Check {
    /// Feeds more of the body.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.macs.iter_mut().for_each(|mac| mac.update(bytes));
    }

    /// Compares in constant time. Neither signature is ever logged: ours would be a valid one for a forged body.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        // Every one is compared, so that the time does not tell which of them fits.
        let fitting = self.macs.into_iter().filter(|mac| mac.clone().verify_slice(&self.expected).is_ok()).count();
        if fitting > 0 {
            return Ok(());
        }
        tracing::warn!("a delivery's signature does not match its body: check the webhook secret");
        let detail = "Signature does not match the body.";
        Err(refuse(StatusCode::UNAUTHORIZED, "webhook.signature_mismatch", detail))
    }
}

/// The value of `X-Hub-Signature-256` for `body`, for those who send deliveries: the local forge's hook, and tests.
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    let mut mac = mac_of(secret);
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// The one value of a header. Two of them would let one part of a program read one and another part the other.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.count() {
        0 => Ok(first.map(axum::http::HeaderValue::as_bytes)),
        more => {
            let detail = format!("{name} was sent {} times.", more + 1);
            Err(refuse(StatusCode::BAD_REQUEST, "webhook.header_repeated", detail))
        }
    }
}

/// Refuses every content type and encoding but plain JSON.
pub(super) fn is_plain_json(headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(encoding) = single(headers, "Content-Encoding")?
        && !encoding.eq_ignore_ascii_case(b"identity")
    {
        let detail = "Compressed bodies are not accepted.";
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "webhook.encoding", detail));
    }
    let value = single(headers, "Content-Type")?.unwrap_or_default().to_ascii_lowercase();
    let plain: Vec<u8> = value.into_iter().filter(|byte| *byte != b' ').collect();
    if plain == b"application/json" || plain == b"application/json;charset=utf-8" {
        return Ok(());
    }
    let detail = "Set the webhook's content type to application/json.";
    Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "webhook.content_type", detail))
}

/// The delivery's id, a UUID, in lower case.
pub(super) fn delivery_id(headers: &HeaderMap) -> Result<String, ApiError> {
    let value = single(headers, "X-GitHub-Delivery")?.unwrap_or_default();
    let dashes = [8, 13, 18, 23];
    let is_uuid = value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match dashes.contains(&at) {
            true => *byte == b'-',
            false => byte.is_ascii_hexdigit(),
        });
    match std::str::from_utf8(value) {
        Ok(text) if is_uuid => Ok(text.to_ascii_lowercase()),
        _ => Err(refuse(StatusCode::BAD_REQUEST, "webhook.delivery_id", "X-GitHub-Delivery must be a UUID.")),
    }
}

/// The event's name.
pub(super) fn event_name(headers: &HeaderMap) -> Result<String, ApiError> {
    let value = single(headers, "X-GitHub-Event")?.unwrap_or_default();
    let plain = !value.is_empty()
        && value.len() <= 64
        && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    match std::str::from_utf8(value) {
        Ok(text) if plain => Ok(text.to_owned()),
        _ => {
            let detail = "X-GitHub-Event must name an event with 1 to 64 letters, digits and underscores.";
            Err(refuse(StatusCode::BAD_REQUEST, "webhook.event", detail))
        }
    }
}

/// Refuses what is not JSON, or nested deeper than anybody means.
pub(super) fn is_sound_json(bytes: &[u8]) -> Result<(), ApiError> {
    let invalid = |why: String| refuse(StatusCode::BAD_REQUEST, "webhook.json_invalid", why);
    if nests_too_deep(bytes) {
        return Err(invalid(format!("Body is not valid JSON: nesting exceeds {MAX_DEPTH}.")));
    }
    serde_json::from_slice::<IgnoredAny>(bytes)
        .map(|_| ())
        .map_err(|error| invalid(format!("Body is not valid JSON (line {} column {}).", error.line(), error.column())))
}

/// Whether brackets outside strings are ever open more than [`MAX_DEPTH`] deep. (serde's own bound does not hold for
/// values it skips.)
fn nests_too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn githubs_published_signature_is_ours() {
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign(b"It's a Secret to Everybody", b"Hello, World!"), expected);
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let text = format!(r#"{{"a": "{}\"{}"}}"#, "[".repeat(500), "{".repeat(500));
        assert!(!nests_too_deep(text.as_bytes()));
        assert!(!nests_too_deep("[".repeat(128).as_bytes()));
        assert!(nests_too_deep("[".repeat(129).as_bytes()));
    }
}
