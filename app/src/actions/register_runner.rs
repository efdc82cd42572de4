//! A machine becomes a runner.

use crate::context::Context;
use crate::http::auth::{hash, random_token};
use crate::model::runner::RegistrationToken;
use crate::model::time::Timestamp;
use crate::store::{Error, Tx};
use pipelines_spec::plan::Label;
use pipelines_spec::protocol::{RegisterRequest, RegisterResponse};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

/// Labels a runner may have.
const MOST_LABELS: usize = 64;
/// Characters of a name, a label's key and its value.
const LONGEST: usize = 128;

/// Why a machine did not become one.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The token does not work (any more).
    #[error("This registration token was used or has expired; make a new one.")]
    Token,
    /// The token may not grant a label that is asked for.
    #[error("label '{0}' is not granted by this registration token.")]
    Label(Label),
    /// A field is not what it should be: which, and what is wrong.
    #[error("{1}")]
    Field(&'static str, String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Exchanges a registration token for credentials of the runner's own; those it had under the same name stop working.
pub async fn register_runner(
    context: &Context,
    token: &str,
    request: &RegisterRequest,
    now: Timestamp,
) -> Result<RegisterResponse, RegisterError> {
    let mut tx = context.store.begin().await?;
    let granted = admit(context, &mut tx, token, now).await?;
    // Only now: what a request says is looked at after its credential was.
    check(request)?;
    if let Some(granted) = granted.filter(|token| !token.labels.0.is_empty())
        && let Some(label) = request.labels.iter().find(|label| !granted.labels.0.contains(label))
    {
        return Err(RegisterError::Label(label.clone()));
    }
    let secret = random_token("rvr_");
    let runner = tx.save_runner(request, &hash(&secret), now).await?;
    tx.commit().await?;
    tracing::info!(runner.id = %runner.id, runner.name = runner.name, "a runner registered");
    Ok(RegisterResponse { runner_id: runner.id.0, token: secret })
}

/// Checks the token and uses it up. `None`: the one of the settings, which grants everything.
async fn admit(
    context: &Context,
    tx: &mut Tx,
    token: &str,
    now: Timestamp,
) -> Result<Option<RegistrationToken>, RegisterError> {
    let given = hash(token);
    if let Some(expected) = &context.config.runner_token {
        let expected = hash(expected.expose_secret());
        if bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            return Ok(None);
        }
    }
    tx.use_registration_token(&given, now).await?.map(Some).ok_or(RegisterError::Token)
}

fn check(request: &RegisterRequest) -> Result<(), RegisterError> {
    let wrong = |field, text: &str| Err(RegisterError::Field(field, text.to_owned()));
    if !is_word(&request.name) {
        return wrong("name", "A runner's name is 1 to 128 letters, digits and signs, without white space or commas.");
    }
    if request.labels.len() > MOST_LABELS {
        return wrong("labels", "A runner has at most 64 labels.");
    }
    let bad = |label: &&Label| !is_word(&label.key) || !is_word(&label.value) || label.key.contains('=');
    if let Some(label) = request.labels.iter().find(bad) {
        return Err(RegisterError::Field("labels", format!("'{}' is not a label.", label.to_string().escape_debug())));
    }
    if !(request.version.is_empty() || is_word(&request.version)) {
        return wrong("version", "A version is one word.");
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && c != ',';
    (1..=LONGEST).contains(&text.chars().count()) && text.chars().all(allowed)
}
