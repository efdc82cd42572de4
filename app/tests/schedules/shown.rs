//! What people see of schedules and do to them: over the API, on the pages, and at the command line.

use crate::conversation::{ADMIN, Rivet, conversations, text};
use crate::{firings, nightly, push, runs, schedule_ids, tick};
use rivet::model::ids::TokenId;
use rivet::model::role::Role;
use rivet::model::time::Timestamp;
use rivet::store::Json;
use rivet::store::tokens::ApiToken;
use serde_json::{Value, json};
use std::process::Output;

conversations!(
    the_api_tells_when_it_fires_next_and_how_it_stands,
    only_who_may_act_acts,
    the_pages_have_buttons_for_everything,
    the_command_line_lists_pauses_resumes_and_runs,
);

/// One schedule of acme/app that has fired once, on 1 January at 03:00 in Kolkata.
async fn fired(rivet: &Rivet) -> String {
    push(rivet, r#"{ cron = "0 3 * * *", timezone = "Asia/Kolkata", inputs = { depth = 7 } }"#).await;
    tick(rivet, "2025-12-31T12:00:00Z").await;
    tick(rivet, "2025-12-31T21:30:00Z").await;
    schedule_ids(rivet).await.remove(0).0
}

async fn post(rivet: &Rivet, path: &str) -> (u16, Value) {
    rivet.api("POST", path, Some(json!({}))).await
}

async fn the_api_tells_when_it_fires_next_and_how_it_stands(rivet: Rivet) {
    let id = fired(&rivet).await;
    let (status, listed) = rivet.api("GET", "/api/v1/schedules?repo=acme/app&pipeline=nightly", None).await;
    assert_eq!((status, listed["items"].as_array().unwrap().len(), &listed["next_cursor"]), (200, 1, &Value::Null));
    let run = runs(&rivet).await.remove(0);
    let told =
        listed["items"][0].to_string().replace(&rivet.url, "").replace(&id, "ID").replace(&text(&run["id"]), "RUN");
    insta::assert_snapshot!(serde_json::to_string_pretty(&serde_json::from_str::<Value>(&told).unwrap()).unwrap(), @r#"
    {
      "catch_up": true,
      "cron": "0 3 * * *",
      "id": "ID",
      "inputs": {
        "depth": 7
      },
      "last": {
        "due_at": "2025-12-31T21:30:00.000Z",
        "reason": "on.schedule '0 3 * * *' (Asia/Kolkata) was due at 2026-01-01T03:00:00+05:30",
        "run": "RUN",
        "run_number": 1,
        "run_state": "running",
        "state": "started"
      },
      "next": [
        "2026-01-01T21:30:00.000Z",
        "2026-01-02T21:30:00.000Z",
        "2026-01-03T21:30:00.000Z"
      ],
      "next_local": [
        "2026-01-02T03:00:00+05:30",
        "2026-01-03T03:00:00+05:30",
        "2026-01-04T03:00:00+05:30"
      ],
      "pipeline": "nightly",
      "reason": "It fires when it is due.",
      "repo": "acme/app",
      "state": "active",
      "timezone": "Asia/Kolkata",
      "url": "/schedules#ID"
    }
    "#);
    assert_eq!(rivet.api("GET", &format!("/api/v1/schedules/{id}"), None).await, (200, listed["items"][0].clone()));
    // One page after the other.
    push(&rivet, r#"{ cron = "0 3 * * *" }, { cron = "0 4 * * *" }, { cron = "0 5 * * *" }"#).await;
    tick(&rivet, "2026-01-01T00:00:00Z").await;
    let mut seen = vec![];
    let mut after = String::new();
    loop {
        let page = rivet.api("GET", &format!("/api/v1/schedules?limit=2{after}"), None).await.1;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| text(&item["cron"])));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        after = format!("&cursor={cursor}");
    }
    assert_eq!(seen, ["0 3 * * *", "0 4 * * *", "0 5 * * *"]);
    // A definition that broke, and a repository that may start nothing.
    rivet.push("main", &[(".rivet/nightly.lua", "return 5")]).await;
    tick(&rivet, "2026-01-01T00:01:00Z").await;
    let listed = rivet.api("GET", "/api/v1/schedules?limit=1", None).await.1;
    insta::assert_snapshot!(text(&listed["items"][0]["reason"]), @"It stays as it was, because on main the definition has an error: .rivet/nightly.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).");
    rivet.sql("UPDATE repo SET enabled = FALSE").await;
    let listed = rivet.api("GET", "/api/v1/schedules?limit=1", None).await.1;
    let item = &listed["items"][0];
    assert_eq!((text(&item["state"]), &item["next"]), ("blocked".to_owned(), &json!([])));
    insta::assert_snapshot!(text(&item["reason"]), @"Nothing fires here: acme/app is disabled; 'rivet repo enable acme/app' lets its events start pipelines.");
    let (status, refused) = post(&rivet, &format!("/api/v1/schedules/{}/run", text(&item["id"]))).await;
    assert_eq!((status, text(&refused["code"])), (409, "state".to_owned()));
    insta::assert_snapshot!(text(&refused["detail"]), @"It cannot run: acme/app is disabled; 'rivet repo enable acme/app' lets its events start pipelines.");
    rivet.finish().await;
}

async fn token(rivet: &Rivet, role: Role, repos: &[&str]) -> String {
    let secret = rivet::http::auth::random_token("rvk_");
    let token = ApiToken {
        id: TokenId::generate(),
        name: format!("the {role}"),
        role,
        repos: Json(repos.iter().map(|repo| (*repo).to_owned()).collect()),
        created_at: Timestamp::now(),
        expires_at: Some(Timestamp::now().plus_seconds(3600)),
        revoked_at: None,
    };
    let mut tx = rivet.tx().await;
    tx.add_api_token(&token, &rivet::http::auth::hash(&secret)).await.unwrap();
    tx.commit().await.unwrap();
    secret
}

async fn only_who_may_act_acts(rivet: Rivet) {
    // A secret input's value is in the file for all to read; here it is hidden all the same.
    let secret = nightly(r#"{ cron = "0 3 * * *", inputs = { key = "hunter2" } }"#)
        .replace("inputs = { depth", r#"inputs = { key = { type = "string", default = "", secret = true }, depth"#);
    rivet.push("main", &[(".rivet/nightly.lua", &secret)]).await;
    tick(&rivet, "2026-01-01T00:00:00Z").await;
    let id = schedule_ids(&rivet).await.remove(0).0;
    let path = format!("/api/v1/schedules/{id}");
    let viewer = token(&rivet, Role::Viewer, &[]).await;
    let stranger = token(&rivet, Role::User, &["acme/other"]).await;
    let member = token(&rivet, Role::User, &["acme/app"]).await;
    let told = rivet.api_as(&viewer, "GET", &path, None).await.1;
    assert_eq!(told["inputs"], json!({ "key": "***" }));
    for verb in ["pause", "resume", "run"] {
        let path = format!("{path}/{verb}");
        assert_eq!(rivet.api_as("nobody", "POST", &path, Some(json!({}))).await.0, 401);
        assert_eq!(rivet.api_as(&viewer, "POST", &path, Some(json!({}))).await.0, 403);
        assert_eq!(rivet.api_as(&stranger, "POST", &path, Some(json!({}))).await.0, 404);
        assert_eq!(rivet.api_as(&member, "POST", &path, Some(json!({ "now": true }))).await.0, 422);
    }
    assert_eq!(rivet.api_as(&stranger, "GET", "/api/v1/schedules", None).await.1["items"], json!([]));
    assert_eq!(rivet.api_as(&member, "GET", "/api/v1/schedules", None).await.1["items"][0]["id"], id);
    assert_eq!(runs(&rivet).await.len(), 0);
    let missing = format!("/api/v1/schedules/{}/pause", id.replace(|c: char| c.is_ascii_digit(), "0"));
    assert_eq!(post(&rivet, &missing).await.0, 404);

    let paused = rivet.api_as(&member, "POST", &format!("{path}/pause"), Some(json!({}))).await.1;
    assert_eq!((text(&paused["state"]), &paused["next"]), ("paused".to_owned(), &json!([])));
    assert!(text(&paused["reason"]).starts_with("the user paused it at "), "{paused}");
    let (status, run) = rivet.api_as(&member, "POST", &format!("{path}/run"), Some(json!({}))).await;
    assert_eq!(
        (status, text(&run["event"]), text(&run["actor"])),
        (201, "schedule".into(), "the user".into()),
        "{run}"
    );
    let why = rivet.why(&text(&run["sha"])).await;
    assert!(why.contains("nightly run: the user ran on.schedule '0 3 * * *' (UTC) by hand"), "{why}");
    let resumed = rivet.api_as(&member, "POST", &format!("{path}/resume"), Some(json!({}))).await.1;
    assert_eq!((text(&resumed["state"]), resumed["next"].as_array().unwrap().len()), ("active".to_owned(), 3));
    // Resumed now, by the real clock: what was missed since January is not made up for.
    tick(&rivet, &Timestamp::now().rfc3339()).await;
    assert_eq!(firings(&rivet).await, "");
    rivet.finish().await;
}

/// A browser that signed in, and the word its forms carry.
struct Browser<'a> {
    rivet: &'a Rivet,
    http: reqwest::Client,
    cookie: String,
}

impl<'a> Browser<'a> {
    async fn signed_in(rivet: &'a Rivet) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut browser = Self { rivet, http, cookie: String::new() };
        let answer = browser.post("/sign-in", &format!("token={ADMIN}&next=/")).await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        browser
    }

    async fn get(&self, path: &str) -> String {
        let request = self.http.get(format!("{}{path}", self.rivet.url)).header("cookie", &self.cookie);
        request.send().await.unwrap().text().await.unwrap()
    }

    async fn post(&self, path: &str, form: &str) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.rivet.url)).header("cookie", &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        request.header("origin", &self.rivet.url).send().await.unwrap()
    }

    async fn press(&self, path: &str) -> String {
        let page = self.get("/schedules").await;
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let answer = self.post(path, &format!("csrf={csrf}")).await;
        assert_eq!(answer.status(), 303, "{path}");
        answer.headers()["location"].to_str().unwrap().to_owned()
    }
}

async fn the_pages_have_buttons_for_everything(rivet: Rivet) {
    let browser = Browser::signed_in(&rivet).await;
    assert!(browser.get("/schedules").await.contains("No schedules yet"));
    let id = fired(&rivet).await;
    let page = browser.get("/schedules").await;
    for shown in [
        "0 3 * * *",
        "Asia/Kolkata",
        "Fri 2026-01-02 03:00 +05:30",
        "Sun 2026-01-04 03:00 +05:30",
        "depth = ",
        "2026-01-01T21:30:00.000Z",
        ">started<",
        "#1<",
        ">active<",
        ">Pause<",
        ">Run now<",
    ] {
        assert!(page.contains(shown), "{shown} is missing in {page}");
    }
    assert!(browser.get("/acme/app").await.contains(">Run now<"), "the repository's page has them too");
    assert_eq!(browser.post(&format!("/schedules/{id}/pause"), "csrf=wrong").await.status(), 403);
    assert_eq!(browser.press(&format!("/schedules/{id}/pause")).await, format!("/schedules#{id}"));
    let page = browser.get("/schedules").await;
    assert!(page.contains(">paused<") && page.contains(">Resume<") && !page.contains(">Pause<"), "{page}");
    assert_eq!(browser.press(&format!("/schedules/{id}/resume")).await, format!("/schedules#{id}"));
    assert!(browser.get("/schedules").await.contains(">active<"));
    let run = browser.press(&format!("/schedules/{id}/run")).await;
    assert!(browser.get(&run).await.contains("nightly"));
    assert_eq!(runs(&rivet).await.len(), 2);
    let csrf = browser.get("/schedules").await;
    let csrf = csrf.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(browser.post(&format!("/schedules/{id}/explode"), &format!("csrf={csrf}")).await.status(), 404);
    rivet.finish().await;
}

/// Runs `rivet` against the server, outside any clone.
async fn cli(rivet: &Rivet, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivet"));
    command.args(args).env_clear().env("RIVET_URL", &rivet.url).env("RIVET_TOKEN", ADMIN).env("NO_COLOR", "1");
    command.env("PATH", std::env::var("PATH").unwrap()).current_dir("/");
    command.output().await.unwrap()
}

async fn stdout(rivet: &Rivet, args: &[&str]) -> String {
    let did = cli(rivet, args).await;
    assert!(did.status.success(), "{args:?}: {}", String::from_utf8_lossy(&did.stderr));
    String::from_utf8(did.stdout).unwrap()
}

async fn the_command_line_lists_pauses_resumes_and_runs(rivet: Rivet) {
    let did = cli(&rivet, &["schedule", "list"]).await;
    assert!(did.status.success() && String::from_utf8_lossy(&did.stderr).contains("no schedules"));
    let id = fired(&rivet).await;
    let plain = |text: String| text.replace(&id, "ID").replace(&rivet.url, "");
    insta::assert_snapshot!(plain(stdout(&rivet, &["schedule", "list"]).await), @"
    active acme/app nightly '0 3 * * *' (Asia/Kolkata) ID
      next 2026-01-02T03:00:00+05:30 (2026-01-01T21:30:00.000Z)
      next 2026-01-03T03:00:00+05:30 (2026-01-02T21:30:00.000Z)
      next 2026-01-04T03:00:00+05:30 (2026-01-03T21:30:00.000Z)
      last started run 1, which is running: on.schedule '0 3 * * *' (Asia/Kolkata) was due at 2026-01-01T03:00:00+05:30
      It fires when it is due. /schedules#ID
    ");
    let listed: Value = serde_json::from_str(&stdout(&rivet, &["schedule", "list", "--json"]).await).unwrap();
    assert_eq!((&listed["schema_version"], &listed["items"][0]["id"]), (&json!(1), &json!(id)));
    let paused: Value = serde_json::from_str(&stdout(&rivet, &["schedule", "pause", &id, "--json"]).await).unwrap();
    assert_eq!((text(&paused["state"]), paused["inputs"]["depth"].as_f64()), ("paused".into(), Some(7.0)));
    // By the pipeline's name, where it has one schedule.
    let resumed = stdout(&rivet, &["schedule", "resume", "nightly", "-R", "acme/app"]).await;
    assert!(
        resumed.starts_with(&format!("active acme/app nightly '0 3 * * *' (Asia/Kolkata) {id}\n  next ")),
        "{resumed}"
    );
    let run: Value = serde_json::from_str(&stdout(&rivet, &["schedule", "run", &id, "--json"]).await).unwrap();
    assert_eq!((&run["number"], text(&run["event"])), (&json!(2), "schedule".into()));
    let unknown = cli(&rivet, &["schedule", "pause", "01jd3c8v6x0000000000000001"]).await;
    assert_eq!(unknown.status.code(), Some(5));
    let unknown = cli(&rivet, &["schedule", "pause", "daily", "-R", "acme/app"]).await;
    assert_eq!(unknown.status.code(), Some(5), "{}", String::from_utf8_lossy(&unknown.stderr));
    push(&rivet, r#"{ cron = "0 3 * * *" }, { cron = "0 4 * * *" }"#).await;
    tick(&rivet, "2026-01-02T00:00:00Z").await;
    let which = cli(&rivet, &["schedule", "run", "nightly", "-R", "acme/app"]).await;
    assert_eq!(which.status.code(), Some(2), "{}", String::from_utf8_lossy(&which.stderr));
    rivet.finish().await;
}
