//! The schema against what people write, and against the file in the repository.

use super::*;

fn errors(toml: &str) -> Vec<String> {
    let value: Value = toml::from_str(toml).unwrap();
    let schema = pipeline_schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(&value).map(|e| e.to_string()).collect()
}

/// The example of the language's own description, as it stands there.
const EXAMPLE: &str = r#"
name = "build-test-deploy"
version = 1

[steps.build]
run = ["npm install", "npm run build"]

[steps.test]
depends_on = ["build"]
run = ["npm test"]

[steps.deploy]
depends_on = ["test"]
run = ["./deploy.sh"]
retry = { max_attempts = 3, on = ["infra_error", "timeout"] }
approval = { required = true, reviewers = ["devops"] }
rollback = { run = ["./rollback.sh"] }
"#;

/// Everything else the format has.
const FULL: &str = r#"
description = "all of it"
timeout = "2h"
concurrency = { group = "ci-${ref}", cancel_in_progress = true }
runner = [{ key = "os", value = "linux" }]
env = { RUST_BACKTRACE = 1, CI = true }

[on]
push = { branches = ["main", "release/*"], tags = ["v*"], paths = ["src/**", "!docs/**"] }
pull_request = true
schedule = [{ cron = "0 3 * * 1-5", timezone = "Europe/Berlin", inputs = { jobs = 16 } }]
comment = { command = "/bench", permission = "write" }
repository_dispatch = ["deploy"]
manual = true

[inputs.jobs]
type = "number"
default = 4
options = [1, 2, 4]

[steps.test]
run = "cargo test"
container = "rust:latest"
if = 'input.get("jobs") ~= "1"'
matrix = { db = ["sqlite", "postgres"], exclude = [{ db = "postgres" }], max_parallel = 4, fail_fast = true }
timeout = "30m"
secrets = ["KEY"]
services = { db = { image = "postgres:16", env = { A = "b" }, ready = { command = ["pg_isready"], interval = 1, timeout = "30s" } } }

[steps.e2e]
pipeline = "e2e"
inputs = { url = "https://${ref}.example.org" }
"#;

#[test]
fn what_people_write_is_valid() {
    assert_eq!(errors(EXAMPLE), Vec::<String>::new());
    assert_eq!(errors(FULL), Vec::<String>::new());
}

#[test]
fn mistakes_are_not() {
    for (what, toml) in [
        ("a typo in a step", "[steps.a]\nrun = 'x'\ntimout = 5"),
        ("a typo at the top", "nam = 'x'\n[steps.a]\nrun = 'x'"),
        ("a step that does nothing", "[steps.a]\ntimeout = 5"),
        ("a step that does two things", "[steps.a]\nrun = 'x'\npipeline = 'y'"),
        ("no steps", "name = 'x'"),
        ("a bad name", "[steps.'a b']\nrun = 'x'"),
        ("a bad duration", "[steps.a]\nrun = 'x'\ntimeout = 'soon'"),
        ("an unknown error class", "[steps.a]\nrun = 'x'\nretry = { max_attempts = 2, on = ['flake'] }"),
        ("an unknown type", "[inputs.a]\ntype = 'date'\n[steps.a]\nrun = 'x'"),
        ("a Lua-only key", "[steps.a]\nrun = 'x'\nscript = 'x'"),
        ("an axis that is no list", "[steps.a]\nrun = 'x'\nmatrix = { db = 'x' }"),
    ] {
        assert!(!errors(toml).is_empty(), "{what}");
    }
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::meta::is_valid(&pipeline_schema()));
}

#[test]
fn the_file_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/pipeline.schema.json");
    if std::env::var_os("UPDATE_FILES").is_some() {
        std::fs::write(path, pipeline_schema_text()).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(file == pipeline_schema_text(), "{path} is old: run UPDATE_FILES=1 cargo test -p pipelines-spec");
}
