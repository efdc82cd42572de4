//! Looking at the App as GitHub has it: what it lacks, where its deliveries go, what its installations have not accepted,
//! and whether a delivery arrives. The page and `rivet admin doctor` say the same.

use crate::forge::ForgeError;
use crate::forge::github::needs::{self, Lack};
use crate::forge::github::{AppFacts, Github, HookConfig, HookDelivery, InstallationFacts};
use crate::model::ids::ForgeKind;
use crate::store::{Store, Tx};
use serde::Serialize;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Something does not work.
    Warning,
    /// Nothing works.
    Trouble,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What.
    pub what: &'static str,
    /// How it is.
    pub level: Level,
    /// How it is, in a sentence.
    pub detail: String,
    /// What does not work, and what to do.
    pub hint: Option<String>,
    /// Where to do it: an address at GitHub.
    pub link: Option<String>,
}

impl Note {
    fn new(what: &'static str, level: Level, detail: impl Into<String>) -> Self {
        Self { what, level, detail: detail.into(), hint: None, link: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn link(self, link: Option<String>) -> Self {
        Self { link, ..self }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What the App is, where GitHub said.
    pub facts: Option<AppFacts>,
    /// Where it is installed.
    pub installations: Vec<InstallationFacts>,
    /// What was looked at.
    pub notes: Vec<Note>,
}

/// Asks GitHub about the App; deliveries should go to `hook`.
pub async fn inspect(github: &Github, hook: &str) -> Inspection {
    let facts = match github.verify().await {
        Ok(facts) => facts,
        Err(error) => {
            let note = Note::new("app", Level::Trouble, format!("{}: {error}", github.api_url()));
            let hint = "Do the App's id and its private key belong together, and does this machine reach the address?";
            return Inspection { facts: None, installations: vec![], notes: vec![note.hint(hint)] };
        }
    };
    let mut notes =
        vec![Note::new("app", Level::Good, format!("{} knows {} (App {})", github.api_url(), facts.name, facts.id))];
    notes.push(permissions(github, &facts));
    notes.push(events(github, &facts));
    notes.push(match github.hook_config().await {
        Ok(config) => webhook(github, &facts, &config, hook),
        Err(error) => Note::new("webhook", Level::Warning, format!("where deliveries go is not known: {error}")),
    });
    let installations = match github.installations().await {
        Ok(found) => found,
        Err(error) => {
            notes.push(Note::new("installations", Level::Warning, format!("they are not known: {error}")));
            vec![]
        }
    };
    notes.extend(installations.iter().filter_map(|installation| lagging(github, installation, &facts)));
    Inspection { facts: Some(facts), installations, notes }
}

fn lacks(what: &'static str, lacks: &[Lack], good: &str) -> Note {
    let Some(first) = lacks.first() else { return Note::new(what, Level::Good, good) };
    let level = if first.essential { Level::Trouble } else { Level::Warning };
    let names: Vec<&str> = lacks.iter().map(|lack| lack.what.as_str()).collect();
    let lines: Vec<String> = lacks.iter().map(|lack| format!("{}: {}", lack.what, lack.without)).collect();
    Note::new(what, level, format!("missing: {}", names.join(", "))).hint(lines.join("\n"))
}

fn permissions(github: &Github, facts: &AppFacts) -> Note {
    let found = needs::lacking_permissions(&facts.permissions);
    lacks("permissions", &found, "it has every permission Rivet uses").link(settings(github, facts, "/permissions"))
}

fn events(github: &Github, facts: &AppFacts) -> Note {
    let found = needs::lacking_events(&facts.events);
    lacks("events", &found, "it is told everything Rivet uses").link(settings(github, facts, "/permissions"))
}

fn webhook(github: &Github, facts: &AppFacts, config: &HookConfig, wanted: &str) -> Note {
    let page = settings(github, facts, "");
    if config.url.trim_end_matches('/') != wanted {
        let told = if config.url.is_empty() { "nowhere".to_owned() } else { format!("to {}", config.url) };
        let detail = format!("deliveries go {told}, not to {wanted}");
        return Note::new("webhook", Level::Trouble, detail)
            .hint("Set the webhook URL in the App's settings, or RIVET_PUBLIC_URL where this instance's own is wrong.")
            .link(page);
    }
    if config.content_type != "json" {
        let detail = format!("deliveries are sent as '{}', which is refused", config.content_type);
        let hint = "Set the content type to application/json in the App's settings.";
        return Note::new("webhook", Level::Trouble, detail).hint(hint).link(page);
    }
    if config.insecure() {
        let detail = "GitHub was told not to check this instance's certificate";
        return Note::new("webhook", Level::Warning, detail)
            .hint("Enable SSL verification in its settings.")
            .link(page);
    }
    Note::new("webhook", Level::Good, format!("deliveries go to {wanted}"))
}

/// A page of the App's settings.
fn settings(github: &Github, facts: &AppFacts, page: &str) -> Option<String> {
    let server = github.server_url().as_str().trim_end_matches('/');
    let slug = &facts.slug;
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let owner = facts.owner.as_ref()?;
    if !plain(slug) || !plain(&owner.login) {
        return None;
    }
    Some(match owner.kind.as_str() {
        "Organization" => format!("{server}/organizations/{}/settings/apps/{slug}{page}", owner.login),
        _ => format!("{server}/settings/apps/{slug}{page}"),
    })
}

/// An installation whose owner has not accepted what the App asks for by now. What the App lacks itself was said before.
fn lagging(github: &Github, installation: &InstallationFacts, facts: &AppFacts) -> Option<Note> {
    let of_app = needs::lacking_permissions(&facts.permissions);
    let mut found = needs::lacking_permissions(&installation.permissions);
    found.retain(|lack| !of_app.iter().any(|known| known.without == lack.without));
    if found.is_empty() {
        return None;
    }
    let note = lacks("installations", &found, "");
    let detail = format!("{} has not accepted the App's new permissions; {}", installation.account, note.detail);
    let lines = format!("{}\nAn owner of {} accepts them.", note.hint.unwrap_or_default(), installation.account);
    Some(Note { detail, hint: Some(lines), link: link(github, &installation.html_url), ..note })
}

/// An address GitHub told, where it is one of GitHub's own: others are not shown as links.
pub fn link(github: &Github, told: &str) -> Option<String> {
    let server = format!("{}/", github.server_url().as_str().trim_end_matches('/'));
    told.starts_with(&server).then(|| told.to_owned())
}

/// What became of a delivery that was asked for once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// GitHub has not tried yet.
    Waiting,
    /// It arrived, here, and was believed.
    Received,
    /// It did not arrive: in a sentence.
    NotReceived(String),
    /// It arrived and its signature was wrong.
    BadSignature,
    /// Something else answered, or nothing at this path.
    WrongUrl(String),
}

impl Reach {
    /// What it means and what to do, in a note.
    pub fn note(&self, hook: &str) -> Note {
        let new = |level, detail: &str| Note::new("delivery", level, detail);
        match self {
            Self::Waiting => new(Level::Warning, "GitHub was asked to deliver once more and has not done so yet"),
            Self::Received => new(Level::Good, "received: GitHub delivered, the signature was right, and it is stored"),
            Self::NotReceived(why) => new(Level::Trouble, &format!("not received: {why}")).hint(format!(
                "GitHub must reach {hook} from the Internet. Behind a proxy, pass /webhooks/github on unchanged; for \
                 nginx:\n  location / {{ proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; \
                 client_max_body_size 25m; proxy_buffering off; }}"
            )),
            Self::BadSignature => new(Level::Trouble, "bad signature: it arrived, signed with another webhook secret")
                .hint("Make a new secret on the page /setup, or set the App's secret at GitHub to the one set here."),
            Self::WrongUrl(why) => new(Level::Trouble, &format!("wrong URL: {why}"))
                .hint(format!("The webhook URL must be {hook}, and lead to this instance.")),
        }
    }
}

/// Asks GitHub to deliver its newest delivery once more; the id of the try that is repeated. `None`: there is none yet.
pub async fn ask_again(github: &Github) -> Result<Option<i64>, ForgeError> {
    let (newest, _) = github.deliveries(None).await?;
    let Some(newest) = newest.first() else { return Ok(None) };
    github.redeliver(newest.id).await?;
    Ok(Some(newest.id))
}

/// What became of the try after `asked`.
pub async fn outcome(github: &Github, store: &Store, asked: i64) -> Result<Reach, ForgeError> {
    let (tries, _) = github.deliveries(None).await?;
    let Some(at) = tries.iter().position(|one| one.id == asked) else {
        return Ok(Reach::NotReceived("the delivery is too long ago to be found".to_owned()));
    };
    // Newest first: what stands before it came after it.
    let Some(again) = tries[..at].iter().find(|one| one.guid == tries[at].guid) else { return Ok(Reach::Waiting) };
    let stored = async {
        let mut tx: Tx = store.read().await?;
        tx.knows_delivery(ForgeKind::Github, &again.guid.to_ascii_lowercase()).await
    };
    let stored = stored.await.map_err(|error| ForgeError::Unavailable(format!("the database: {error}")))?;
    Ok(meaning(again, stored))
}

fn meaning(again: &HookDelivery, stored: bool) -> Reach {
    match again.status_code {
        200..=299 if stored => Reach::Received,
        200..=299 => Reach::WrongUrl("another server than this one answered".to_owned()),
        401 => Reach::BadSignature,
        404 | 405 => Reach::WrongUrl(format!("the server there has nothing at that path ({})", again.status_code)),
        301..=308 => Reach::WrongUrl(format!("the server there sends it elsewhere ({})", again.status_code)),
        0 => Reach::NotReceived("nobody answered".to_owned()),
        502..=504 => Reach::NotReceived(format!("a proxy answered that nobody is behind it ({})", again.status_code)),
        other => Reach::NotReceived(format!("the answer was {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    #[test]
    fn a_status_means_one_thing() {
        let again = |status_code| HookDelivery {
            id: 1,
            guid: String::new(),
            delivered_at: Timestamp(0),
            redelivery: true,
            status_code,
            event: "ping".to_owned(),
            action: None,
            installation_id: None,
            repository_id: None,
        };
        let said = |status, stored| meaning(&again(status), stored).note("HOOK").detail;
        let all: Vec<String> = [(200, true), (200, false), (401, false), (404, false), (302, false), (0, false)]
            .into_iter()
            .chain([(502, false), (500, false)])
            .map(|(status, stored)| format!("{status} {stored}: {}", said(status, stored)))
            .collect();
        insta::assert_snapshot!(all.join("\n"), @"
        200 true: received: GitHub delivered, the signature was right, and it is stored
        200 false: wrong URL: another server than this one answered
        401 false: bad signature: it arrived, signed with another webhook secret
        404 false: wrong URL: the server there has nothing at that path (404)
        302 false: wrong URL: the server there sends it elsewhere (302)
        0 false: not received: nobody answered
        502 false: not received: a proxy answered that nobody is behind it (502)
        500 false: not received: the answer was 500
        ");
    }
}
