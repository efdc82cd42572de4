//! The API: one request after the other is checked against GitHub's description, against who asks, and answered.

use super::{APP_ID, Check, FakeGithub, INSTALLATION, Repo, Status, Token, World};
use super::{comments, deployments, pulls};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub type Answer = Result<(u16, Value), (u16, String)>;

/// A request, taken apart.
pub struct Call {
    pub method: String,
    pub path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    pub body: Value,
}

impl Call {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The requested page of a list.
    pub fn page(&self, all: Vec<Value>) -> Vec<Value> {
        let number = |name: &str, default: usize| self.query(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let size: usize = number("per_page", 30);
        all.into_iter().skip((number("page", 1) - 1) * size).take(size).collect()
    }
}

pub async fn answer(State(fake): State<FakeGithub>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let query_text = parts.uri.query().unwrap_or_default().to_owned();
    let Some(api_path) = path.strip_prefix("/api/v3") else {
        if path.ends_with("/settings/apps/new") || path == "/settings/apps/new" {
            return match fake.make_app(&path, &query_text, &bytes) {
                Ok(back) => respond(302, &[("location", back)], &json!({})),
                Err(why) => respond(422, &[], &json!({ "message": why })),
            };
        }
        if !may_fetch(&fake, &path, &parts.headers) {
            return respond(401, &[("www-authenticate", "Basic".into())], &json!({}));
        }
        let root = fake.folder.path().to_owned();
        return super::git::http_backend(root, parts.method.to_string(), path, query_text, parts.headers, bytes).await;
    };
    // Asked for the time alone.
    if parts.method == axum::http::Method::HEAD {
        return respond(200, &[], &Value::Null);
    }
    let call = Call {
        method: parts.method.to_string(),
        path: decoded(api_path),
        query: url::form_urlencoded::parse(query_text.as_bytes()).into_owned().collect(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    let slow = {
        let mut world = fake.world();
        world.calls.push(format!("{} {}", call.method, call.path));
        world.faults.slow
    };
    if let Some(time) = slow {
        tokio::time::sleep(time).await;
    }
    if let Some(broken) = fault(&fake) {
        return broken;
    }
    let begun = std::time::Instant::now();
    let problems = fake.schema.problems(&call.method, &call.path, &call.query, &call.body);
    let mut world = fake.world();
    world.violations.extend(problems);
    let (status, body) = match handle(&mut world, &call) {
        Ok(done) => done,
        Err((status, message)) => {
            if status == 422 {
                world.violations.push(format!("{} {}: 422 {message}", call.method, call.path));
            }
            (status, json!({ "message": message, "documentation_url": "https://docs.github.com/rest" }))
        }
    };
    if call.method != "GET" && !call.path.ends_with("/access_tokens") && world.faults.lose_answers > 0 {
        world.faults.lose_answers -= 1;
        return respond(502, &[], &json!("<html>Bad Gateway</html>"));
    }
    world.busy += begun.elapsed();
    let link: Vec<(&'static str, String)> = next_page(&world, &call).map(|next| ("link", next)).into_iter().collect();
    respond(status, &link, &body)
}

fn respond(status: u16, headers: &[(&'static str, String)], body: &Value) -> Response<Body> {
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_string())).unwrap()
}

fn fault(fake: &FakeGithub) -> Option<Response<Body>> {
    let mut world = fake.world();
    if world.faults.down {
        return Some(Response::builder().status(503).body(Body::from("<html>Unicorn!</html>")).unwrap());
    }
    let (count, status, headers, message) = world.faults.refuse.as_mut().filter(|refuse| refuse.0 > 0)?;
    *count -= 1;
    Some(respond(*status, headers, &json!({ "message": message })))
}

/// Runners fetch with a token that may read contents: `x-access-token` with Basic, or as Bearer.
fn may_fetch(fake: &FakeGithub, path: &str, headers: &HeaderMap) -> bool {
    let world = fake.world();
    let Some(repo) = world.repos.iter().find(|r| path.starts_with(&format!("/{}.git/", r.facts.full_name()))) else {
        return false;
    };
    let header = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let basic = header.strip_prefix("Basic ").or(header.strip_prefix("basic ")).and_then(|b| STANDARD.decode(b).ok());
    let basic = basic.and_then(|bytes| String::from_utf8(bytes).ok());
    let token = match &basic {
        Some(pair) => pair.split_once(':').map_or("", |(_, token)| token),
        None => bearer(header),
    };
    let token = world.tokens.get(token);
    !repo.facts.private
        || token
            .is_some_and(|t| t.repositories.contains(&repo.facts.forge_id) && t.permissions.contains_key("contents"))
}

/// A path with its escapes resolved.
fn decoded(path: &str) -> String {
    // A query's rules turn a plus into a blank, which a path keeps.
    let pair = format!("p={}", path.replace('+', "%2B").replace('&', "%26").replace('=', "%3D"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, path)| path.into_owned()).unwrap_or_default()
}

fn bearer(header: &str) -> &str {
    header.strip_prefix("Bearer ").or(header.strip_prefix("bearer ")).unwrap_or_default()
}

pub fn not_found() -> (u16, String) {
    (404, "Not Found".to_owned())
}

fn handle(world: &mut World, call: &Call) -> Answer {
    let token = bearer(call.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default());
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["app", rest @ ..] => {
            is_app(world, token)?;
            super::app::answer(world, call, rest).unwrap_or_else(|| app(world, call, rest))
        }
        ["app-manifests", code, "conversions"] if call.method == "POST" => super::app::convert(world, code),
        ["orgs", org, "teams", team, "memberships", login] => {
            let wide = world.tokens.get(token).ok_or((401, "Bad credentials".to_owned()))?;
            // Without this permission GitHub says of everybody that they are not there.
            if !wide.permissions.contains_key("members") {
                return Err(not_found());
            }
            comments::membership(world, org, team, login)
        }
        ["installation", "token"] if call.method == "DELETE" => {
            world.tokens.remove(token).ok_or((401, "Bad credentials".to_owned()))?;
            Ok((204, Value::Null))
        }
        ["repos", owner, name, "installation"] => {
            is_app(world, token)?;
            find(world, owner, name).map(|repo| (200, json!({ "id": repo.facts.installation_id })))
        }
        ["repos", owner, name, rest @ ..] => {
            let repo = find(world, owner, name)?;
            let needs = match (call.method.as_str(), rest[0]) {
                (_, "check-runs") => ("checks", "write"),
                ("GET", "commits") if rest.last() == Some(&"check-runs") => ("checks", "read"),
                (_, "statuses") => ("statuses", "write"),
                ("GET", "commits") if rest.last() == Some(&"pulls") => ("pull_requests", "read"),
                (_, "pulls") => ("pull_requests", "read"),
                ("GET", "issues") => ("issues", "read"),
                (_, "issues") => ("issues", "write"),
                ("GET", "deployments") => ("deployments", "read"),
                (_, "deployments") => ("deployments", "write"),
                (_, "collaborators") => ("metadata", "read"),
                _ => ("contents", "read"),
            };
            may(world, token, &repo, needs)?;
            in_repo(world, call, &repo, rest)
        }
        _ => Err(not_found()),
    }
}

/// Checks the App's JWT as GitHub does: its key, its issuer, and at most ten minutes.
fn is_app(world: &World, token: &str) -> Result<(), (u16, String)> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iss: Value,
        iat: i64,
        exp: i64,
    }
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    let refuse = |why: &str| (401, format!("A JSON web token could not be decoded: {why}"));
    let decoded = FakeGithub::keys(world).into_iter().map(|key| {
        let key = jsonwebtoken::DecodingKey::from_rsa_pem(key.as_bytes()).unwrap();
        jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|e| refuse(&e.to_string()))
    });
    let claims = decoded.reduce(Result::or).unwrap()?.claims;
    let issuer = claims.iss.as_str().map_or(claims.iss.to_string(), str::to_owned);
    match issuer == APP_ID.to_string() && claims.exp - claims.iat <= 660 {
        true => Ok(()),
        false => Err(refuse("issuer or expiry")),
    }
}

fn find(world: &World, owner: &str, name: &str) -> Result<Repo, (u16, String)> {
    let full = format!("{owner}/{name}").to_lowercase();
    world.repos.iter().find(|r| r.facts.full_name().to_lowercase() == full).cloned().ok_or_else(not_found)
}

/// Whether the token reaches the repository and is wide enough. A token that is too wide is a mistake of ours.
fn may(world: &World, token: &str, repo: &Repo, (what, how): (&str, &str)) -> Result<(), (u16, String)> {
    let token = world.tokens.get(token).ok_or((401, "Bad credentials".to_owned()))?;
    if !token.repositories.contains(&repo.facts.forge_id) {
        return Err(not_found());
    }
    match token.permissions.get(what).map(String::as_str) {
        Some("write") => Ok(()),
        Some("read") if how == "read" => Ok(()),
        _ => Err((403, "Resource not accessible by integration".to_owned())),
    }
}

fn app(world: &mut World, call: &Call, rest: &[&str]) -> Answer {
    match rest {
        ["hook", "deliveries"] => Ok((200, list_deliveries(world, call))),
        ["hook", "deliveries", id] => {
            let found = world.delivered.iter().find(|d| d.id.to_string() == *id).ok_or_else(not_found)?;
            Ok((200, json!({ "id": found.id, "guid": found.guid, "request": { "payload": found.payload } })))
        }
        ["hook", "deliveries", id, "attempts"] if call.method == "POST" => {
            let found = world.delivered.iter().find(|d| d.id.to_string() == *id).cloned().ok_or_else(not_found)?;
            world.wanted_again.push(found);
            Ok((202, json!({})))
        }
        ["installations", id, "access_tokens"] if *id == INSTALLATION.to_string() => Ok(mint(world, call)),
        _ => Err(not_found()),
    }
}

/// Newest first, by pages of a cursor that counts from the end. GitHub names the next page in a `Link` header; here it
/// is taken from the answer by [`answer`].
fn list_deliveries(world: &World, call: &Call) -> Value {
    let size: usize = call.query("per_page").and_then(|v| v.parse().ok()).unwrap_or(30);
    let skip: usize = call.query("cursor").and_then(|v| v.strip_prefix('v')?.parse().ok()).unwrap_or(0);
    let shown = |d: &super::Delivered| {
        json!({
            "id": d.id, "guid": d.guid, "delivered_at": d.at, "redelivery": d.redelivery, "duration": 0.1,
            "status": if d.status < 300 && d.status > 0 { "OK" } else { "failed" }, "status_code": d.status,
            "event": d.event, "action": d.payload["action"], "installation_id": d.payload["installation"]["id"],
            "repository_id": d.payload["repository"]["id"],
        })
    };
    world.delivered.iter().rev().skip(skip).take(size).map(shown).collect()
}

fn next_page(world: &World, call: &Call) -> Option<String> {
    if call.method != "GET" || call.path != "/app/hook/deliveries" {
        return None;
    }
    let size: usize = call.query("per_page").and_then(|v| v.parse().ok()).unwrap_or(30);
    let skip: usize = call.query("cursor").and_then(|v| v.strip_prefix('v')?.parse().ok()).unwrap_or(0);
    let more = skip + size < world.delivered.len();
    more.then(|| format!("<https://api.github.com/app/hook/deliveries?cursor=v{}>; rel=\"next\"", skip + size))
}

fn mint(world: &mut World, call: &Call) -> (u16, Value) {
    let ids: Vec<i64> = serde_json::from_value(call.body["repository_ids"].clone()).unwrap_or_default();
    let permissions: BTreeMap<String, String> =
        serde_json::from_value(call.body["permissions"].clone()).unwrap_or_default();
    if ids.len() != 1 || permissions.is_empty() {
        world.violations.push(format!("a token was not narrowed: {}", call.body));
    }
    if world.faults.no_deployments && permissions.contains_key("deployments") {
        return (422, json!({ "message": "The permissions requested are not granted to this installation." }));
    }
    let text = format!("ghs_{}", world.id());
    let expires = (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    world.tokens.insert(text.clone(), Token { repositories: ids, permissions: permissions.clone() });
    (
        201,
        json!({ "token": text, "expires_at": expires, "permissions": permissions, "repository_selection": "selected" }),
    )
}

fn in_repo(world: &mut World, call: &Call, repo: &Repo, rest: &[&str]) -> Answer {
    let git = &repo.git;
    let some = |found: Option<Value>| found.map(|value| (200, value)).ok_or_else(not_found);
    match (call.method.as_str(), rest) {
        ("GET", ["git", "trees", sha]) => {
            if git.is_empty() {
                return Err((409, "Git Repository is empty.".to_owned()));
            }
            let mut tree = git.tree(sha, call.query("recursive").is_some());
            if let (Some(tree), true) = (&mut tree, world.faults.truncate_trees) {
                tree["truncated"] = call.query("recursive").is_some().into();
            }
            some(tree)
        }
        ("GET", ["git", "commits", sha]) => some(git.facts(sha)),
        ("GET", ["git", "blobs", sha]) => some(git.blob(sha).map(|bytes| {
            // GitHub breaks the text into lines.
            let text: Vec<String> = STANDARD
                .encode(&bytes)
                .as_bytes()
                .chunks(60)
                .map(|l| String::from_utf8_lossy(l).into_owned())
                .collect();
            json!({ "sha": sha, "size": bytes.len(), "encoding": "base64", "content": text.join("\n") })
        })),
        ("GET", ["compare", ..]) => {
            let (base, head) =
                call.path.split("/compare/").nth(1).and_then(|r| r.split_once("...")).ok_or_else(not_found)?;
            some(git.compare(base, head))
        }
        ("GET", ["pulls", number]) => pulls::one(world, repo, number),
        ("GET", ["pulls"]) => pulls::list(world, call, repo),
        ("GET", ["commits", sha, "pulls"]) => pulls::of_commit(world, call, repo, sha),
        (_, ["issues", rest @ ..]) => comments::issues(world, call, repo, rest),
        (_, ["deployments", rest @ ..]) => deployments::deployments(world, call, repo, rest),
        ("GET", ["git", "matching-refs", ..]) => {
            let prefix = call.path.split("/matching-refs/").nth(1).unwrap_or_default();
            Ok((200, git.refs(prefix).into()))
        }
        ("GET", ["commits", sha, "check-runs"]) => Ok((200, list_checks(world, call, repo, sha))),
        ("GET", ["commits", ..]) => {
            let name = call.path.split("/commits/").nth(1).unwrap_or_default();
            let found = git.find(name).ok_or((422, format!("No commit found for SHA: {name}")));
            match found {
                Ok(sha) => Ok((200, json!({ "sha": sha, "commit": { "message": git.message(&sha) } }))),
                // What GitHub says here is no mistake of the caller's.
                Err((status, message)) => Ok((status, json!({ "message": message }))),
            }
        }
        ("GET", ["pulls", number, "files"]) => {
            let number: i64 = number.parse().map_err(|_| not_found())?;
            let pull = world.pulls.iter().find(|p| p.repo == repo.facts.forge_id && p.number == number);
            let pull = pull.ok_or_else(not_found)?;
            let compared = git.compare(&pull.base, &pull.head_sha).ok_or_else(not_found)?;
            Ok((200, call.page(compared["files"].as_array().cloned().unwrap_or_default()).into()))
        }
        ("GET", ["collaborators", login, "permission"]) => {
            if let Some(status) = world.faults.permissions {
                return Err((status, "Server Error".to_owned()));
            }
            let known = world.permissions.get(&(repo.facts.forge_id, (*login).to_owned()));
            let (permission, id) = known.ok_or_else(not_found)?;
            let id = if world.faults.other_account { id + 500 } else { *id };
            Ok((
                200,
                json!({ "permission": permission, "role_name": permission, "user": { "login": login, "id": id } }),
            ))
        }
        ("POST", ["check-runs"]) => create_check(world, call, repo),
        ("GET", ["check-runs", id]) => {
            let mine = |c: &&Check| c.repo == repo.facts.forge_id && c.id.to_string() == *id;
            let check = world.checks.iter().find(mine).ok_or_else(not_found)?;
            Ok((200, json!({ "id": check.id, "output": { "annotations_count": check.annotations.len() } })))
        }
        ("PATCH", ["check-runs", id]) => update_check(world, call, repo, id),
        ("POST", ["statuses", sha]) => {
            check_limits(&call.body)?;
            known(repo, sha)?;
            world.statuses.push(Status { repo: repo.facts.forge_id, sha: (*sha).to_owned(), body: call.body.clone() });
            Ok((201, json!({ "id": world.id(), "state": call.body["state"] })))
        }
        _ => Err(not_found()),
    }
}

fn known(repo: &Repo, sha: &str) -> Result<(), (u16, String)> {
    match repo.git.find(sha) {
        Some(found) if found == sha => Ok(()),
        _ => Err((422, format!("No commit found for SHA: {sha}"))),
    }
}

/// Limits that stand in GitHub's pages and not in its description.
fn check_limits(body: &Value) -> Result<(), (u16, String)> {
    let long = |value: &Value, limit: usize| value.as_str().is_some_and(|text| text.chars().count() > limit);
    let too_many = |value: &Value, limit: usize| value.as_array().is_some_and(|list| list.len() > limit);
    let output = &body["output"];
    for (wrong, what) in [
        (long(&output["summary"], 65_535) || long(&output["text"], 65_535), "Only 65535 characters are allowed"),
        (output["summary"].as_str().is_some_and(|s| s.len() > 65_535), "summary has too many bytes"),
        (long(&body["description"], 140), "description is too long (maximum is 140 characters)"),
        (long(&body["context"], 255), "context is too long (maximum is 255 characters)"),
        (too_many(&output["annotations"], 50), "no more than 50 annotations"),
        (too_many(&body["actions"], 3), "no more than 3 actions"),
        (body["status"] == "completed" && body["conclusion"].is_null(), "completed needs a conclusion"),
        (body["status"] != "completed" && !body["conclusion"].is_null(), "a conclusion completes"),
    ] {
        if wrong {
            return Err((422, what.to_owned()));
        }
    }
    Ok(())
}

fn create_check(world: &mut World, call: &Call, repo: &Repo) -> Answer {
    check_limits(&call.body)?;
    known(repo, call.body["head_sha"].as_str().unwrap_or_default())?;
    if world.has_check(repo.facts.forge_id, &call.body) {
        world.violations.push(format!("a second check run for {}", call.body["external_id"]));
    }
    let id = world.id();
    let annotations = call.body["output"]["annotations"].as_array().cloned().unwrap_or_default();
    world.checks.push(Check { id, repo: repo.facts.forge_id, body: call.body.clone(), annotations, updates: 0 });
    Ok((201, json!({ "id": id })))
}

fn update_check(world: &mut World, call: &Call, repo: &Repo, id: &str) -> Answer {
    check_limits(&call.body)?;
    let id = id.parse().map_err(|_| not_found())?;
    let check = world.check(repo.facts.forge_id, id).ok_or_else(not_found)?;
    check.updates += 1;
    check.annotations.extend(call.body["output"]["annotations"].as_array().cloned().unwrap_or_default());
    let reopened = check.body["status"] == "completed" && call.body["status"] != "completed";
    for (name, value) in call.body.as_object().into_iter().flatten() {
        check.body[name.as_str()] = value.clone();
    }
    if call.body["status"] != "completed" {
        check.body["conclusion"] = Value::Null;
    }
    let id = check.id;
    if reopened {
        world.violations.push(format!("check run {id} was completed and is not any more"));
    }
    Ok((200, json!({ "id": id })))
}

fn list_checks(world: &World, call: &Call, repo: &Repo, sha: &str) -> Value {
    let name = call.query("check_name");
    let mut found: Vec<&Check> = world
        .checks
        .iter()
        .filter(|c| c.repo == repo.facts.forge_id && c.body["head_sha"] == sha)
        .filter(|c| name.is_none_or(|name| c.body["name"] == name))
        .collect();
    if call.query("filter") != Some("all") {
        let newest: BTreeMap<String, i64> = found.iter().map(|c| (c.body["name"].to_string(), c.id)).collect();
        found.retain(|c| newest[&c.body["name"].to_string()] == c.id);
    }
    let all: Vec<Value> = found
        .iter()
        .map(|c| json!({ "id": c.id, "external_id": c.body["external_id"], "name": c.body["name"] }))
        .collect();
    json!({ "total_count": all.len(), "check_runs": call.page(all) })
}
