//! The App as GitHub keeps it: what it may do, where it is installed, where its deliveries go, and the page that makes one
//! from a manifest.

use super::api::{Answer, Call, not_found};
use super::{APP_ID, FakeGithub, INSTALLATION, PRIVATE_KEY, PUBLIC_KEY, WEBHOOK_SECRET, World};
use rivet::forge::github::needs;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Another key pair of the same App, once [`App::second_key`] says so.
pub const OTHER_PRIVATE_KEY: &str = include_str!("../../fixtures/github/other-app.pem");
const OTHER_PUBLIC_KEY: &str = include_str!("../../fixtures/github/other-app.pub.pem");

/// What GitHub knows of the App.
pub struct App {
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
    /// What the owner of the installation accepted, where that is not what the App may.
    pub accepted: Option<BTreeMap<String, String>>,
    pub installed: bool,
    pub content_type: String,
    /// What deliveries are signed with.
    pub secret: String,
    pub second_key: bool,
    /// The manifest a browser brought last, and where it was posted.
    pub manifest: Option<(String, Value)>,
    /// Codes that are good once.
    pub codes: Vec<String>,
    /// What the conversion of a code answers as webhook secret; `None`: `null`.
    pub made_with_secret: Option<String>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            permissions: needs::PERMISSIONS.iter().map(|p| (p.name.to_owned(), p.access.to_owned())).collect(),
            events: needs::EVENTS.iter().map(|event| event.name.to_owned()).collect(),
            accepted: None,
            installed: true,
            content_type: "json".to_owned(),
            secret: WEBHOOK_SECRET.to_owned(),
            second_key: false,
            manifest: None,
            codes: vec![],
            made_with_secret: Some(WEBHOOK_SECRET.to_owned()),
        }
    }
}

impl FakeGithub {
    /// The public keys a JWT may be signed with.
    pub(super) fn keys(world: &World) -> Vec<&'static str> {
        match world.app.second_key {
            true => vec![PUBLIC_KEY, OTHER_PUBLIC_KEY],
            false => vec![PUBLIC_KEY],
        }
    }

    /// The page a manifest is posted to: somebody looks at it and presses "Create"; answers where the browser goes next.
    pub(super) fn make_app(&self, path: &str, query: &str, form: &[u8]) -> Result<String, String> {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let manifest: Value =
            serde_json::from_str(form.get("manifest").ok_or("no manifest")?).map_err(|e| e.to_string())?;
        for field in ["name", "url"] {
            manifest[field].as_str().filter(|text| !text.is_empty()).ok_or(format!("{field} is missing"))?;
        }
        if manifest["public"] != false {
            return Err("a private App must say so".to_owned());
        }
        for (name, access) in manifest["default_permissions"].as_object().ok_or("no permissions")? {
            if !self.schema.is_permission(name, access.as_str().unwrap_or_default()) {
                return Err(format!("there is no permission {name}: {access}"));
            }
        }
        let back = manifest["redirect_url"].as_str().ok_or("no redirect_url")?.to_owned();
        let hook = manifest["hook_attributes"]["url"].as_str().ok_or("no hook")?.to_owned();
        let mut world = self.world();
        let code = format!("code{}", world.id());
        world.hook = Some(hook);
        world.app.permissions = serde_json::from_value(manifest["default_permissions"].clone()).unwrap();
        world.app.events = serde_json::from_value(manifest["default_events"].clone()).unwrap();
        world.app.codes.push(code.clone());
        world.app.manifest = Some((path.to_owned(), manifest));
        let state = query.get("state").cloned().unwrap_or_default();
        Ok(format!("{back}?code={code}&state={state}"))
    }
}

/// The App as `GET /app` shows it.
fn facts(world: &World) -> Value {
    json!({
        "id": APP_ID, "slug": "rivet-test", "name": "Rivet Test", "client_id": "Iv1.test",
        "owner": { "login": "acme", "id": 1 }, "html_url": format!("{}/apps/rivet-test", world.address),
        "permissions": world.app.permissions, "events": world.app.events,
    })
}

/// Answers what the App asks about itself; `None` where it asks about something else.
pub fn answer(world: &mut World, call: &Call, rest: &[&str]) -> Option<Answer> {
    Some(match (call.method.as_str(), rest) {
        ("GET", []) => Ok((200, facts(world))),
        ("GET", ["installations"]) => {
            let accepted = world.app.accepted.as_ref().unwrap_or(&world.app.permissions);
            let one = json!({
                "id": INSTALLATION, "account": { "login": "acme", "id": 1 }, "suspended_at": null,
                "html_url": format!("{}/organizations/acme/settings/installations/{INSTALLATION}", world.address),
                "permissions": accepted, "events": world.app.events, "repository_selection": "selected",
            });
            let all = if world.app.installed { vec![one] } else { vec![] };
            Ok((200, call.page(all).into()))
        }
        ("GET", ["hook", "config"]) => Ok((200, hook(world))),
        ("PATCH", ["hook", "config"]) => {
            if let Some(url) = call.body["url"].as_str() {
                world.hook = Some(url.to_owned());
            }
            if let Some(secret) = call.body["secret"].as_str() {
                world.app.secret = secret.to_owned();
            }
            if let Some(kind) = call.body["content_type"].as_str() {
                world.app.content_type = kind.to_owned();
            }
            Ok((200, hook(world)))
        }
        _ => return None,
    })
}

fn hook(world: &World) -> Value {
    json!({ "url": world.hook, "content_type": world.app.content_type, "secret": "********", "insecure_ssl": "0" })
}

/// Turns a code into the App, once.
pub fn convert(world: &mut World, code: &str) -> Answer {
    let at = world.app.codes.iter().position(|known| known == code).ok_or_else(not_found)?;
    world.app.codes.remove(at);
    let mut made = facts(world);
    made["pem"] = PRIVATE_KEY.into();
    made["webhook_secret"] = world.app.made_with_secret.clone().into();
    made["client_secret"] = "a client secret nobody uses yet".into();
    Ok((201, made))
}
