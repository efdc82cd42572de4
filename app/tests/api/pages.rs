//! The pages as a browser asks for them: signed in by a cookie, acting by forms.

use crate::world::{ADMIN, Answer, SHA, World, on_both_databases};
use axum::body::Body;
use axum::http::{Method, Request};
use rivet::model::role::Role;

on_both_databases!(
    a_stranger_is_sent_to_sign_in_and_back,
    a_session_ends_on_the_server,
    a_form_of_another_site_does_nothing,
    guessing_tokens_is_slowed_down,
    every_page_shows_what_is_there,
    hostile_text_never_becomes_markup,
    a_hundred_thousand_lines_come_in_pieces,
    a_live_page_goes_on_where_it_stopped,
);

/// A browser that keeps its cookie.
pub struct Browser<'a> {
    world: &'a World,
    cookie: String,
}

const ORIGIN: &str = "http://rivet.test";

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, cookie: String::new() }
    }

    pub async fn signed_in(world: &'a World) -> Self {
        let mut browser = Self::new(world);
        let answer = browser.post("/sign-in", &format!("token={ADMIN}&next=/")).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"));
        browser.keep(&answer);
        browser
    }

    fn keep(&mut self, answer: &Answer) {
        self.cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "rivet.test").header("cookie", &self.cookie);
        self.world.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Answer {
        self.post_from(Some(ORIGIN), path, form).await
    }

    async fn post_from(&self, origin: Option<&str>, path: &str, form: &str) -> Answer {
        let mut request = Request::post(path)
            .header("host", "rivet.test")
            .header("cookie", &self.cookie)
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        self.world.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// The word the forms of this session carry.
    pub async fn csrf(&self) -> String {
        let page = self.get("/").await.text;
        page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

async fn a_stranger_is_sent_to_sign_in_and_back(world: World) {
    let mut browser = Browser::new(&world);
    let answer = browser.get("/acme/shop?branch=a/b").await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), "/sign-in?next=%2Facme%2Fshop%3Fbranch%3Da%2Fb");
    let form = browser.get(answer.header("location")).await;
    assert!(form.text.contains(r#"name="next" value="/acme/shop?branch=a/b""#));
    let answer = browser.post("/sign-in", &format!("token={ADMIN}&next=//evil.test")).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"));
    let cookie = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    browser.keep(&answer);
    assert_eq!(browser.get("/").await.status, 200);
    let wrong = browser.post("/sign-in", "token=wrong&next=/").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("The token is not valid."));
    let limited = world.token(Role::Viewer, &["acme/shop"]).await;
    assert_eq!(browser.post("/sign-in", &format!("token={limited}")).await.status, 401);
}

async fn a_session_ends_on_the_server(world: World) {
    let browser = Browser::signed_in(&world).await;
    let other = Browser::signed_in(&world).await;
    assert_ne!(browser.cookie, other.cookie);
    let csrf = browser.csrf().await;
    assert_eq!(browser.post("/sign-out", &format!("csrf={csrf}")).await.status, 303);
    assert_eq!(browser.get("/").await.status, 303, "the cookie that was kept opens nothing");
    assert_eq!(other.get("/").await.status, 200);
    world.sql("UPDATE session SET last_seen_at = last_seen_at - 12 * 3600000 - 1").await;
    assert_eq!(other.get("/").await.status, 303);
}

async fn a_form_of_another_site_does_nothing(world: World) {
    let browser = Browser::signed_in(&world).await;
    let csrf = browser.csrf().await;
    for (origin, csrf) in [
        (Some("https://evil.test"), csrf.as_str()),
        (Some("null"), &csrf),
        (None, &csrf),
        (Some(ORIGIN), ""),
        (Some(ORIGIN), "0123"),
    ] {
        let answer = browser.post_from(origin, "/sign-out", &format!("csrf={csrf}")).await;
        assert_eq!(answer.status, 403, "{origin:?}");
        assert!(answer.text.contains("Reload the page and try again."));
    }
    assert_eq!(browser.get("/sign-out").await.status, 405);
    assert_eq!(browser.get("/").await.status, 200);
    let request = Request::builder().method(Method::DELETE).uri("/api/v1/tokens/x").header("cookie", &browser.cookie);
    let by_cookie = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(by_cookie.refusal(), "401 auth.required", "a cookie writes nothing over the API");
    assert_eq!(browser.get("/api/v1/repos").await.status, 200, "but it may read");
}

async fn guessing_tokens_is_slowed_down(world: World) {
    let browser = Browser::new(&world);
    for _ in 0..10 {
        assert_eq!(browser.post("/sign-in", "token=wrong").await.status, 401);
    }
    let answer = browser.post("/sign-in", &format!("token={ADMIN}")).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 800);
}

async fn every_page_shows_what_is_there(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    world.stage(&run, 0, "build", "succeeded", &[]).await;
    let stage = world.stage(&run, 1, "test (db=sqlite)", "failed", &["build"]).await;
    let job = world.job(&run, &stage, 1, "finished").await;
    world.log(&job, 0, "::group::Tests\none\n::endgroup::\nlast without end").await;
    let browser = Browser::signed_in(&world).await;

    let home = browser.get("/").await.text;
    for part in ["<title>(1) Rivet</title>", "acme/shop", "Say hello", "Running"] {
        assert!(home.contains(part), "{part}");
    }
    let repo = browser.get("/acme/shop?branch=main&state=").await.text;
    assert!(repo.contains(&format!("/runs/{run}")));
    assert!(browser.get("/acme/shop?branch=other").await.text.contains("No run is like this."));

    let page = browser.get(&format!("/runs/{run}")).await.text;
    for part in
        ["Running · ci #1 · acme/shop", "alice pushed to main", "cargo test ended with exit code 101", "<svg width="]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("assertion failed: &lt;b&gt;left&lt;/b&gt; == right"));
    let failure = page.find("card failure").unwrap();
    assert!(failure < page.find("card graph").unwrap(), "what failed comes first");

    let log = browser.get(&format!("/runs/{run}/stages/test%20%28db%3Dsqlite%29")).await.text;
    assert!(log.contains("<details open><summary>") && log.contains("id=\"L4\""), "{log}");
    assert!(log.contains("last without end"));
    for (path, status) in [
        ("/deliveries", 200),
        ("/runners", 200),
        (&format!("/why/acme/shop/{SHA}"), 200),
        ("/acme/none", 404),
        ("/runs/01jd3c8v6x0000000000000404", 404),
        (&format!("/runs/{run}/stages/none"), 404),
        ("/none", 404),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.header("content-type").starts_with("text/html"), "{path}");
        assert!(answer.header("content-security-policy").contains("script-src 'self'"), "{path}");
    }
}

async fn hostile_text_never_becomes_markup(world: World) {
    const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\u{202e}gnp";
    world.repo(1, "acme", "shop").await;
    let run = world.run_with(1, 1, "running", EVIL, EVIL).await;
    let stage = world.stage(&run, 0, "build", "running", &[]).await;
    let job = world.job(&run, &stage, 1, "running").await;
    let log = format!("{EVIL}\n\u{1b}]8;;javascript:alert(3)\u{7}click\u{1b}]8;;\u{7}\n::group::{EVIL}\n{EVIL}\n");
    world.log(&job, 0, &log).await;
    let evil = EVIL.replace('\'', "''");
    world
        .sql(&format!(
            "UPDATE stage SET reason = '{evil}', outputs = '{{\"x\": \"<script>\"}}', state = 'failed',
                error = '{{\"class\": \"script_error\", \"message\": \"<script>\", \"tail\": \"<script>\\u202e\"}}'"
        ))
        .await;
    world.sql(&format!("UPDATE run SET reason = '{evil}', actor = '{evil}'")).await;
    let browser = Browser::signed_in(&world).await;
    let stage_path = format!("/runs/{run}/stages/build");
    for path in ["/", "/acme/shop", &format!("/runs/{run}"), &stage_path, &format!("{stage_path}/lines?from=1&to=4")] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let scripts = answer.text.matches("<script").count();
        assert_eq!(scripts, answer.text.matches("<script src=\"/assets/").count(), "{path}");
        for bad in ["<img", "javascript:", "\u{202e}", "\u{1b}", " style=", " onerror=\""] {
            assert!(!answer.text.contains(bad), "{path} has {bad:?}");
        }
    }
    let evil_path = browser.get("/%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(!evil_path.text.contains("<script>alert"));
}

async fn a_hundred_thousand_lines_come_in_pieces(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "completed").await;
    let stage = world.stage(&run, 0, "build", "succeeded", &[]).await;
    let job = world.job(&run, &stage, 1, "finished").await;
    let mut position = 0;
    for chunk in 0..100 {
        let text: String = (0..1000)
            .map(|n| {
                format!(
                    "\u{1b}[32m{:06}\u{1b}[0m a line of a log that is of ordinary length, more or less\n",
                    chunk * 1000 + n + 1
                )
            })
            .collect();
        world.log(&job, position, &text).await;
        position += i64::try_from(text.len()).unwrap();
    }
    let browser = Browser::signed_in(&world).await;
    let path = format!("/runs/{run}/stages/build");
    let begun = std::time::Instant::now();
    let first = browser.get(&path).await;
    let cold = begun.elapsed();
    let begun = std::time::Instant::now();
    let last = browser.get(&format!("{path}/lines?from=99501&to=100000")).await.text;
    let warm = begun.elapsed();
    println!("first page {cold:?}, last lines {warm:?}, {} bytes", first.text.len());
    assert!(first.text.contains("id=\"L500\"") && !first.text.contains("id=\"L501\""));
    assert_eq!(first.text.matches("class=\"chunk gap\"").count(), 199);
    assert!(first.text.len() < 200_000, "{}", first.text.len());
    assert!(last.contains("<span class=\"f2\">100000</span>") && last.matches("class=\"ln\"").count() == 500);
    assert_eq!(browser.get(&format!("{path}/lines?from=1&to=5000")).await.refusal(), "400 param.range");
    let direct = browser.get(&format!("{path}?from=70001")).await.text;
    assert!(direct.contains("id=\"L70001\"") && direct.contains("data-from=\"1\" data-to=\"500\""));
}

async fn a_live_page_goes_on_where_it_stopped(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    let stage = world.stage(&run, 0, "build", "running", &[]).await;
    let job = world.job(&run, &stage, 1, "running").await;
    world.log(&job, 0, "\u{1b}[31mone\ntwo\nthree\n").await;
    let browser = Browser::signed_in(&world).await;
    let page = browser.get(&format!("/runs/{run}/stages/build")).await.text;
    assert!(page.contains("/live?attempt=1&amp;after=3\""), "{page}");
    world.log(&job, 19, "four\nfi").await;
    world.sql("UPDATE job SET state = 'finished'").await;
    let live = browser.get(&format!("/runs/{run}/stages/build/live?attempt=1&after=3")).await.text;
    assert!(live.contains("id: 5\n"), "{live}");
    assert!(live.contains("<span class=\"f1\">four</span>"), "colours carry over: {live}");
    assert!(!live.contains("three") && live.contains("event: end"));
}
