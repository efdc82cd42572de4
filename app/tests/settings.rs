//! Settings: where they come from, which wins, and what is said about wrong ones (T1–T8).

use rivet::config::{Config, Flags, Origins};
use secrecy::ExposeSecret as _;
use std::os::unix::fs::PermissionsExt as _;

fn env(pairs: &[(&str, &str)]) -> Origins {
    let mut origins = Origins::default();
    origins.env.insert("HOME".into(), "/home/rivet".into());
    for (name, value) in pairs {
        origins.env.insert((*name).into(), (*value).into());
    }
    origins
}

fn toml(text: &str) -> Origins {
    Origins { file: Some(("rivet.toml".into(), text.into())), ..env(&[]) }
}

fn problems(origins: Origins) -> String {
    match Config::load(origins) {
        Ok(_) => "no problems".to_owned(),
        Err(problems) => problems.0.join("\n"),
    }
}

fn loaded(origins: Origins) -> Config {
    match Config::load(origins) {
        Ok(config) => config,
        Err(problems) => panic!("{}", problems.0.join("\n")),
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn nothing_set_is_the_embedded_default() {
    let config = loaded(env(&[]));
    assert_eq!(config.database.to_string(), "sqlite:/home/rivet/.local/share/rivet/rivet.db");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080/");
    assert!(config.github.is_none() && config.admin_token.is_none());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mut origins = toml("[server]\nlisten = '127.0.0.1:1'\n");
    assert_eq!(loaded(origins.clone()).listen.port(), 1);
    origins.env.insert("RIVET_LISTEN".into(), "127.0.0.1:2".into());
    assert_eq!(loaded(origins.clone()).listen.port(), 2);
    origins.flags = Flags([("RIVET_LISTEN".to_owned(), "127.0.0.1:3".to_owned())].into());
    assert_eq!(loaded(origins).listen.port(), 3);
}

#[test]
fn a_secret_may_come_from_a_file_but_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let config = loaded(env(&[("RIVET_ADMIN_TOKEN_FILE", file)]));
    assert_eq!(config.admin_token.unwrap().expose_secret(), SECRET);
    insta::assert_snapshot!(
        problems(env(&[("RIVET_ADMIN_TOKEN_FILE", file), ("RIVET_ADMIN_TOKEN", SECRET)])),
        @"RIVET_ADMIN_TOKEN and RIVET_ADMIN_TOKEN_FILE are both set; set one of them"
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    insta::assert_snapshot!(problems(env(&[
        ("RIVET_LISTN", "x"),
        ("RIVET_LISTEN", "80"),
        ("RIVET_DATABASE_URL", "mysql://x"),
        ("RIVET_PUBLIC_URL", "rivet.example.org"),
        ("RIVET_GITHUB_APP_ID", "one"),
        ("RIVET_SECRET_KEY", "c2hvcnQ="),
        ("RIVET_LOG_FORMAT", "xml"),
        ("RIVET_OBJECT_STORE_URL", "ftp://x"),
        ("RIVET_ADMIN_TOKEN", ""),
    ])), @"
    RIVET_LISTN: there is no such setting; did you mean RIVET_LISTEN?
    RIVET_LISTEN: must be 'address:port'; for example 127.0.0.1:8080
    RIVET_DATABASE_URL: must begin with postgres:// or sqlite:; for example postgres://rivet@db/rivet
    RIVET_PUBLIC_URL: must be an address that begins with https://; for example https://rivet.example.org
    RIVET_GITHUB_PRIVATE_KEY: is needed beside the other GitHub settings; for example /etc/rivet/key.pem
    RIVET_GITHUB_WEBHOOK_SECRET: is needed beside the other GitHub settings; for example the output of: openssl rand -hex 32
    RIVET_GITHUB_APP_ID: must be a positive whole number; for example 123456
    RIVET_SECRET_KEY: must be 32 bytes in base64, got 5 bytes; for example the output of: openssl rand -base64 32
    RIVET_ADMIN_TOKEN: is empty; for example the output of: openssl rand -hex 32
    RIVET_OBJECT_STORE_URL: must begin with file:/// or s3://; for example s3://bucket/prefix
    RIVET_LOG_FORMAT: must be text or json, got 'xml'; for example json
    ");
}

#[test]
fn t1_an_unknown_key_is_named_with_the_nearest() {
    insta::assert_snapshot!(
        problems(toml("# one\n\n[groups]\nx = []\n\n[server]\nlistn = '127.0.0.1:1'\n[serverr]\n")),
        @"
    rivet.toml:7:1: unknown key 'listn' in [server]; did you mean 'listen'?
    rivet.toml:8:2: unknown section [serverr]; did you mean 'server'?
    "
    );
}

#[test]
fn t2_a_wrong_type_is_named_with_the_right_one() {
    insta::assert_snapshot!(
        problems(toml("\n[server]\nlisten = 80\n")),
        @"rivet.toml:3:10: server.listen must be a string 'address:port', got integer 80"
    );
}

#[test]
fn t3_the_file_must_be_toml_a_byte_order_mark_is_none_of_its_business() {
    insta::assert_snapshot!(problems(toml("[server]\nlog = 'a'\nlog = 'b'\n")), @"rivet.toml:3:1: duplicate key 'log'");
    assert_eq!(problems(toml("\u{feff}[server]\nlisten = '127.0.0.1:1'\n")), "no problems");
    let deep = problems(toml(&format!("a = {}", "[".repeat(200_000))));
    assert!(deep.contains("recursion limit"), "{deep}");
}

#[test]
fn t4_a_webhook_secret_is_long() {
    let text = "[github]\napp_id = 1\nprivate_key = '-----BEGIN RSA PRIVATE KEY-----'\nwebhook_secret = 'changeme'\n";
    insta::assert_snapshot!(
        problems(toml(text)),
        @"rivet.toml:4:18: github.webhook_secret: at least 32 bytes are required, got 8; for example the output of: openssl rand -hex 32"
    );
}

#[test]
fn t5_a_key_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
    let path = key.to_str().unwrap();
    let with_mode = |mode: u32| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        problems(env(&[
            ("RIVET_GITHUB_APP_ID", "1"),
            ("RIVET_GITHUB_PRIVATE_KEY", path),
            ("RIVET_GITHUB_WEBHOOK_SECRET", SECRET),
        ]))
    };
    assert_eq!(with_mode(0o644), format!("{path}: must not be readable by group or others (mode 0644); run chmod 600"));
    assert_eq!(with_mode(0o600), "no problems");
}

#[test]
fn t6_links_are_encrypted_or_stay_here() {
    insta::assert_snapshot!(
        problems(env(&[("RIVET_PUBLIC_URL", "http://rivet.example.org")])),
        @"RIVET_PUBLIC_URL: server.public_url must be https unless the host is loopback; for example https://rivet.example.org"
    );
    assert_eq!(problems(env(&[("RIVET_PUBLIC_URL", "http://localhost:8080")])), "no problems");
}

#[test]
fn t7_forks_never_reach_the_host() {
    insta::assert_snapshot!(
        problems(toml("[runner]\nexecutor = 'host'\naccept_forks = true\n")),
        @"rivet.toml:3:16: runner.accept_forks cannot be used with the host executor"
    );
}

#[test]
fn t8_stored_secrets_need_the_key_they_were_made_with() {
    use rivet::config::{SecretKey, check_key_id};
    let key = SecretKey::parse(&"A".repeat(43).into()).err().unwrap();
    assert_eq!(key, "must be 32 bytes in base64");
    let one = SecretKey::parse(&"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()).unwrap();
    let other = SecretKey::parse(&"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()).unwrap();
    assert_eq!(check_key_id(&one.id(), &one.id()), Ok(()));
    let said = check_key_id(&one.id(), &other.id()).unwrap_err();
    assert_eq!(
        said,
        format!(
            "master key id {}… does not match the database ({}…); refusing to start",
            &one.id()[..8],
            &other.id()[..8]
        )
    );
}

#[test]
fn postgres_needs_the_key_from_outside() {
    insta::assert_snapshot!(
        problems(env(&[("DATABASE_URL", "postgres://rivet:hidden@db/rivet")])),
        @"RIVET_SECRET_KEY: is required with Postgres; for example the output of: openssl rand -base64 32"
    );
}

#[test]
fn groups_are_lists_of_reviewers() {
    let config = loaded(toml("[groups]\ndevops = ['alice', '@acme/ops']\n"));
    assert_eq!(config.groups["devops"], ["alice", "@acme/ops"]);
    insta::assert_snapshot!(
        problems(toml("[groups]\ndevops = 'alice'\n")),
        @"rivet.toml:2:10: groups.devops must be a list of logins and '@org/team's, got a string"
    );
}
