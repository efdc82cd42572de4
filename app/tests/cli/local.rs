//! Commands that need no server: plan, check, init.

use crate::program::{Place, git};

const CI: &str = r#"
return pipeline.define({
    name = "Build and Test",
    on = { push = { branches = { "main", "release/*" } }, manual = true },
    inputs = { skip_tests = { type = "bool", default = false } },
    runner = { { key = "os", value = "linux" } },
    stages = {
        { name = "build", script = function() end },
        {
            name = "test",
            container = "rust:latest",
            condition = function() return input.get("skip_tests") ~= "true" end,
            matrix = { db = { "sqlite", "postgres" } },
            retry = { max_attempts = 3 },
            script = function(ctx) end,
        },
        {
            name = "publish",
            condition = function() return needs.test.outputs.version.major > 1 end,
            script = function(ctx) end,
        },
        {
            name = "deploy",
            approval = { required = true, reviewers = { "@acme/release" }, count = 2 },
            script = function(ctx) end,
        },
    },
})
"#;

fn place() -> Place {
    let place = Place::new();
    place.write(".rivet/ci.lua", CI);
    place.write("src/main.rs", "fn main() {}\n");
    place.commit();
    place
}

/// What a snapshot can hold: the commit differs each time.
fn stable(place: &Place, text: &str) -> String {
    let head = std::process::Command::new("git").arg("-C").arg(place.work()).args(["rev-parse", "HEAD"]).output();
    let head = String::from_utf8(head.expect("git runs").stdout).expect("text");
    text.replace(head.trim(), "SHA").replace(&head[..8], "SHA").replace(&place.work().display().to_string(), "WORK")
}

#[test]
fn plan_tells_what_runs_and_why() {
    let place = place();
    let did = place.rivet(&["plan"]);
    insta::assert_snapshot!(stable(&place, &did.all()), @r"
    exit 0
    --- stdout
    push on refs/heads/main at SHA, changed files unknown

    ✓ ci runs: branch 'main' matches on.push.branches [main, release/*]
        1. build               on os=linux
        2. test (db=sqlite)    after build; its condition holds; up to 3 attempts; in rust:latest; on os=linux
        3. test (db=postgres)  after build; its condition holds; up to 3 attempts; in rust:latest; on os=linux
        4. publish             after test; its condition is decided when it is ready; on os=linux
        5. deploy              after publish; waits for 2 approvals by @acme/release; on os=linux
    ");
    let did = place.rivet(&["plan", "ci", "-f", "skip_tests=yes"]);
    assert!(did.out.contains("skipped: its condition does not hold"), "{}", did.out);
}

#[test]
fn plan_tells_what_does_not_run() {
    let place = place();
    git(&place.work(), "checkout -q -b feature/door");
    place.write("README.md", "changed\n");
    let did = place.rivet(&["plan"]);
    insta::assert_snapshot!(stable(&place, &did.all()), @r"
    exit 0
    --- stdout
    push on refs/heads/feature/door at SHA, 1 changed file

    » ci does not run: no pipeline trigger matches branch 'feature/door': on.push.branches is [main, release/*]
    ");
    let did = place.rivet(&["plan", "--event", "manual"]);
    assert!(did.out.contains("ci runs: on.manual allows it"), "{}", did.out);
    let did = place.rivet(&["plan", "--event", "pul_request"]);
    assert_eq!(did.code, 2);
    assert!(did.err.contains("did you mean 'pull_request'?"), "{}", did.err);
}

#[test]
fn plan_reads_another_ref_from_git_and_events_from_files() {
    let place = place();
    place.write(".rivet/ci.lua", "this is not Lua");
    place.write("event.json", r#"{ "name": "push", "branch": "release/1", "ref": "refs/heads/release/1" }"#);
    assert_eq!(place.rivet(&["plan", "--ref", "main"]).code, 0);
    let did = place.rivet(&["plan", "--ref", "main", "--event", "event.json", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&did.out).expect(&did.err);
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["event"]["branch"], "release/1");
    assert_eq!(json["pipelines"][0]["decision"], "run");
    let did = place.rivet(&["plan"]);
    assert_eq!(did.code, 1);
    assert!(did.out.contains("✗ ci cannot run: it cannot be read"), "{}", did.out);
}

#[test]
fn plan_without_pipelines_says_how_to_begin() {
    let place = Place::new();
    let did = place.rivet(&["plan"]);
    assert_eq!(did.code, 5);
    assert!(did.err.contains("make one with `rivet init`"), "{}", did.err);
    place.write(".rivet/ci.lua", CI);
    let did = place.rivet(&["plan", "cx"]);
    assert_eq!(
        (did.code, did.err.as_str()),
        (5, "rivet: this repository has no pipeline 'cx'\nrivet: did you mean 'ci'? it has ci\n")
    );
}

#[test]
fn check_shows_every_problem_with_its_place() {
    let place = Place::new();
    place.write(
        ".rivet/ci.lua",
        "return pipeline.define({\n    name = \"x\",\n    stages = {\n        { name = \"a\", timout = 5, script = function() end },\n        { name = \"b\", depends_on = { \"c\" }, script = function() end },\n    },\n})\n",
    );
    place.write(".rivet/good.toml", "name = \"good\"\n[steps.a]\nrun = [\"true\"]\n");
    place.write(
        ".rivet/good.lua",
        "return pipeline.define({ name = 'g', stages = { { name = 'a', script = function() end } } })",
    );
    insta::assert_snapshot!(place.rivet(&["check"]).all(), @r#"
    exit 1
    --- stdout
    error[plan.unknown_key]: unknown key 'timout' in stage 'a'.
     --> .rivet/ci.lua:4:23
      |
    4 |         { name = "a", timout = 5, script = function() end },
      |                       ^^^^^^
      |
      = help: Did you mean 'timeout'?

    error[plan.unknown_stage]: stage 'b' needs 'c', which does not exist.
     --> .rivet/ci.lua:5:38
      |
    5 |         { name = "b", depends_on = { "c" }, script = function() end },
      |                                      ^^^
      |
      = help: Did you mean 'a'?

    error[config.duplicate_pipeline]: .rivet/good.lua and .rivet/good.toml define the same pipeline 'good'
     --> .rivet/good.toml:1:1
      |
    1 | name = "good"
      | ^^^^^^^^^^^^^
      |
      = help: rename one of them
    --- stderr
    3 errors
    "#);
    insta::assert_snapshot!(place.rivet(&["check", ".rivet/ci.lua", "--format", "github"]).all(), @r"
    exit 1
    --- stdout
    ::error file=.rivet/ci.lua,line=4,col=23,title=plan.unknown_key::unknown key 'timout' in stage 'a'. Did you mean 'timeout'?
    ::error file=.rivet/ci.lua,line=5,col=38,title=plan.unknown_stage::stage 'b' needs 'c', which does not exist. Did you mean 'a'?
    ");
    let sarif: serde_json::Value =
        serde_json::from_str(&place.rivet(&["check", "--format", "sarif"]).out).expect("SARIF is JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let json: serde_json::Value = serde_json::from_str(&place.rivet(&["check", "--json"]).out).expect("JSON");
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(3));
    assert_eq!(place.rivet(&["check", "nowhere.lua"]).code, 5);
    assert_eq!(place.rivet(&["check", "--format", "xml"]).code, 2);
}

#[test]
fn check_reads_standard_input_and_any_file() {
    let place = Place::new();
    let did = place.rivet_with_input(&["check", "-"], "return pipeline.define({ stages = {");
    assert_eq!(did.code, 1);
    assert!(did.out.contains("config.syntax") && did.out.contains("stdin.lua:1"), "{}", did.out);
    place.write("drafts/new.toml", "name = \"new\"\n[steps.a]\nrun = [\"true\"]\n");
    let did = place.rivet(&["check", "drafts/new.toml"]);
    assert_eq!((did.code, did.err.as_str()), (0, "✓ new (drafts/new.toml): 1 stage\n"));
}

#[test]
fn init_makes_a_pipeline_that_checks() {
    for (file, template) in
        [("Cargo.toml", "rust"), ("go.mod", "go"), ("package.json", "node"), ("setup.py", "python"), ("x", "plain")]
    {
        let place = Place::new();
        place.write(file, "");
        let did = place.rivet(&["init"]);
        assert_eq!((did.code, did.out.as_str()), (0, ".rivet/ci.lua\n"));
        assert!(did.err.contains(&format!("template: {template}")), "{}", did.err);
        let did = place.rivet(&["check"]);
        assert_eq!((did.code, did.out.as_str()), (0, ""), "{template}: {}", did.err);
    }
}

#[test]
fn init_overwrites_nothing_unasked() {
    let place = Place::new();
    place.write(".rivet/ci.lua", "mine");
    insta::assert_snapshot!(place.rivet(&["init"]).all(), @r"
    exit 1
    --- stderr
    rivet: .rivet/ci.lua is there already
    rivet: overwrite it with --force
    ");
    assert_eq!(place.read(".rivet/ci.lua"), "mine");
    assert_eq!(place.rivet(&["init", "--force", "--template", "go"]).code, 0);
    assert!(place.read(".rivet/ci.lua").contains("\"go\", \"test\""));
}

#[test]
fn init_lua_merges_what_is_there() {
    let place = Place::new();
    place.write(".luarc.json", r#"{ "runtime.version": "LuaJIT", "workspace.library": ["own"], "mine": true }"#);
    let did = place.rivet(&["init", "lua"]);
    assert_eq!(did.code, 0, "{}", did.err);
    let settings: serde_json::Value = serde_json::from_str(&place.read(".luarc.json")).expect("JSON");
    assert_eq!(settings["runtime.version"], "LuaJIT");
    assert_eq!(settings["workspace.library"], serde_json::json!(["own", ".rivet/stubs"]));
    assert_eq!(settings["mine"], true);
    assert!(place.read(".rivet/stubs/rivet.d.lua").starts_with("---@meta"));
    assert_eq!(place.rivet(&["init", "lua"]).code, 0);
}
