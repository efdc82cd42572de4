//! The operator's commands, as the program runs them.

use crate::browser::Browser;
use crate::databases::Kind;
use crate::fake_github::{FakeGithub, PRIVATE_KEY, WEBHOOK_SECRET};
use crate::world::{World, key, on_both_databases};
use rivet::actions::setup::connect::{Given, connect};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

on_both_databases!(
    the_doctor_tells_what_the_page_tells,
    the_program_changes_the_master_key,
    a_locked_out_admin_gets_in_by_the_data_directory,
);

struct Did {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program with the settings of an instance that is not running.
async fn rivet(world: &World, args: &[&str], env: &[(&str, &str)]) -> Did {
    let address = match &world.database {
        rivet::store::DatabaseUrl::Postgres(url) => url.clone(),
        rivet::store::DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
    };
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivet"));
    command.args(args).env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", "/nonexistent");
    command.env("RIVET_DATABASE_URL", address).env("RIVET_DATA_DIR", world.data_dir("one")).envs(env.iter().copied());
    command.env("RIVET_PUBLIC_URL", "https://ci.example.org");
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Did { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// What the doctor found about the App, a line each.
fn about_the_app(did: &Did, github: &FakeGithub) -> String {
    let told: Value = serde_json::from_str(&did.out).unwrap_or_else(|e| panic!("{e}: {} {}", did.out, did.err));
    let of_app = ["app", "github", "permissions", "events", "webhook", "installations", "delivery"];
    let found = told["findings"].as_array().unwrap().iter().filter(|f| of_app.contains(&f["what"].as_str().unwrap()));
    let line = |f: &Value| {
        format!("{} {}: {}", f["level"].as_str().unwrap(), f["what"].as_str().unwrap(), f["detail"].as_str().unwrap())
    };
    found.map(line).collect::<Vec<_>>().join("\n").replace(&github.address.to_string(), "GITHUB")
}

async fn the_doctor_tells_what_the_page_tells(world: World) {
    let one = world.instance("one").await;
    let given = Given {
        app_id: "99".into(),
        private_key: PRIVATE_KEY.into(),
        webhook_secret: WEBHOOK_SECRET.into(),
        host: format!("http://{}", world.github.address),
    };
    connect(&one.context, &given, "admin", world.now()).await.unwrap();
    world.deliver(&one).await;
    world.github.world().app.events.retain(|event| event != "push");
    let secret = [("RIVET_SECRET_KEY", key(1))];
    let env: Vec<(&str, &str)> = secret.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let url = one.url.clone();
    let world = world.stopped(one).await;
    let did = rivet(&world, &["admin", "doctor", "--json"], &env).await;
    let said = about_the_app(&did, &world.github).replace(&url, "RIVET");
    insta::allow_duplicates! { insta::assert_snapshot!(said, @"
    good app: http://GITHUB/api/v3 knows Rivet Test (App 99)
    good permissions: it has every permission Rivet uses
    trouble events: missing: push
    trouble webhook: deliveries go to RIVET/webhooks/github, not to https://ci.example.org/webhooks/github
    "); }
    assert_eq!(did.code, 1, "trouble is an exit code");

    // The settings' App, too; and a delivery that is asked for while the doctor waits.
    let pem = world.data_dir("one").join("app.pem");
    std::fs::write(&pem, PRIVATE_KEY).unwrap();
    std::fs::set_permissions(&pem, std::fs::Permissions::from_mode(0o600)).unwrap();
    let api = format!("http://{}/api/v3", world.github.address);
    let settings = [
        ("RIVET_SECRET_KEY", key(1)),
        ("RIVET_GITHUB_APP_ID", "99".to_owned()),
        ("RIVET_GITHUB_PRIVATE_KEY", pem.display().to_string()),
        ("RIVET_GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
        ("RIVET_GITHUB_API_URL", api.clone()),
        ("RIVET_GITHUB_SERVER_URL", api.trim_end_matches("/api/v3").to_owned()),
    ];
    let env: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    world.github.world().hook = Some("http://127.0.0.1:1/webhooks/github".into());
    let asked = async {
        while world.github.deliver_again().await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (did, ()) = tokio::join!(rivet(&world, &["admin", "doctor", "--json", "--redeliver"], &env), asked);
    let said = about_the_app(&did, &world.github);
    assert!(said.ends_with("trouble delivery: not received: nobody answered"), "{said}");
    let shown = rivet(&world, &["admin", "doctor"], &env).await;
    assert!(shown.out.contains("✗ events        missing: push"), "{}", shown.out);
    assert!(!shown.out.contains("PRIVATE KEY") && !shown.out.contains(WEBHOOK_SECRET));
    world.github.finish();
}

async fn the_program_changes_the_master_key(world: World) {
    let one = world.instance("one").await;
    let given = Given {
        app_id: "99".into(),
        private_key: PRIVATE_KEY.into(),
        webhook_secret: WEBHOOK_SECRET.into(),
        host: format!("http://{}", world.github.address),
    };
    connect(&one.context, &given, "admin", world.now()).await.unwrap();
    let world = world.stopped(one).await;
    let (old, new) = (key(1), key(2));
    let both = [("RIVET_SECRET_KEY", new.as_str()), ("RIVET_PREVIOUS_SECRET_KEY", &old)];
    let ask = async |args: &[&str], env: &[(&str, &str)]| {
        let did = rivet(&world, &[&["admin", "rotate-key", "--json"], args].concat(), env).await;
        (did.code, serde_json::from_str::<Value>(&did.out).unwrap_or(json!(did.err)))
    };
    let (code, told) = ask(&["--dry-run"], &both).await;
    assert_eq!((code, &told["secrets"], &told["already"]), (0, &json!(2), &json!(0)), "{told}");
    let (code, told) = ask(&[], &both).await;
    assert_eq!((code, &told["secrets"], &told["already"]), (0, &json!(2), &json!(0)), "{told}");
    let (code, told) = ask(&[], &both).await;
    assert_eq!((code, &told["secrets"], &told["already"]), (0, &json!(0), &json!(2)), "{told}");

    // T8: the old key alone starts nothing any more, and says so without telling either.
    let did = rivet(&world, &["serve", "--listen", "127.0.0.1:0"], &[("RIVET_SECRET_KEY", &old)]).await;
    assert_eq!(did.code, 2, "{}", did.err);
    assert!(did.err.contains("master key id") && did.err.contains("does not match the database"), "{}", did.err);
    assert!(!did.err.contains(&old) && !did.err.contains(&new));
    // Back, by a file; and a key that opens nothing is refused before anything changes.
    let file = world.data_dir("one").join("third");
    std::fs::write(&file, key(3)).unwrap();
    let (code, said) = ask(&["--new-key-file", file.to_str().unwrap()], &[("RIVET_SECRET_KEY", &old)]).await;
    assert_eq!(code, 2, "{said}");
    let (code, told) = ask(&["--new-key-file", file.to_str().unwrap()], &[("RIVET_SECRET_KEY", &new)]).await;
    assert_eq!((code, &told["secrets"]), (0, &json!(2)), "{told}");
    if world.kind == Kind::Sqlite {
        an_embedded_instance_makes_its_own_key(&world).await;
    }
}

/// Its key is in the data directory, and so is the next one until everything is sealed with it.
async fn an_embedded_instance_makes_its_own_key(world: &World) {
    let own = world.data_dir("one").join("secret-key");
    std::fs::write(&own, key(3)).unwrap();
    let did = rivet(world, &["admin", "rotate-key", "--dry-run"], &[]).await;
    assert_eq!((did.code, std::fs::read_to_string(&own).unwrap()), (0, key(3)), "{}", did.err);
    let did = rivet(world, &["admin", "rotate-key"], &[]).await;
    assert!(did.code == 0 && did.err.contains("2 secrets sealed with key"), "{}", did.err);
    assert_ne!(std::fs::read_to_string(&own).unwrap(), key(3));
    assert!(!own.with_extension("new").exists());
    let did = rivet(world, &["admin", "doctor", "--json"], &[]).await;
    assert!(about_the_app(&did, &world.github).starts_with("good app: "), "{}", did.out);
}

async fn a_locked_out_admin_gets_in_by_the_data_directory(world: World) {
    let one = world.instance("one").await;
    let key = key(1);
    // The server runs, and with SQLite has the database for itself.
    let env: &[(&str, &str)] = if world.kind == Kind::Postgres { &[("RIVET_SECRET_KEY", &key)] } else { &[] };
    let did = rivet(&world, &["admin", "setup-url"], env).await;
    assert_eq!(did.code, 0, "{}", did.err);
    let token = did.out.trim().strip_prefix("https://ci.example.org/setup?token=").expect("an address").to_owned();
    let claim = async || Browser::new().post(&one, "/setup/claim", &[("token", &token)]).await.status;
    assert_eq!((claim().await, claim().await), (303, 403));
}
