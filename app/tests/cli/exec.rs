//! `rivet exec`: the same engine in the working tree.

use crate::program::{Place, did};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn place(lua: &str) -> Place {
    let place = Place::new();
    place.write(".rivet/ci.lua", lua);
    place
}

/// Lines of output in the order of their stages, without those the runner says itself.
fn said(out: &str) -> String {
    let mut lines: Vec<&str> = out.lines().filter(|l| !l.contains("│ $ ") && !l.contains(", attempt ")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Durations and machines differ.
fn stable(err: &str) -> String {
    let word = |word: &str| word.parse::<f64>().is_ok() && word.contains('.');
    let line = |line: &str| line.split(' ').map(|w| if word(w) { "N" } else { w }).collect::<Vec<_>>().join(" ");
    err.lines().filter(|l| !l.contains(", attempt ")).map(line).collect::<Vec<_>>().join("\n")
}

const WHOLE: &str = r#"
return pipeline.define({
    name = "whole",
    on = { manual = true },
    inputs = { skip = { type = "bool", default = false }, who = { type = "string", default = "world" } },
    stages = {
        {
            name = "build",
            script = function()
                process.run("cat new.txt > built.txt")
                log.info("hello " .. inputs.who)
                return { version = "1.2" }
            end,
        },
        {
            name = "test",
            condition = function() return input.get("skip") ~= "true" end,
            matrix = { db = { "sqlite", "postgres" }, os = { "linux" } },
            script = function(ctx) log.info(ctx.matrix.db .. " " .. ctx.needs.build.outputs.version) end,
        },
        {
            name = "flaky",
            depends_on = { "build" },
            retry = { max_attempts = 3, backoff = { initial = "10ms" } },
            script = function(ctx) process.run("test " .. ctx.attempt .. " -ge 3") end,
        },
    },
})
"#;

#[test]
fn stages_matrix_conditions_retries_and_outputs_work_as_on_a_server() {
    let place = place(WHOLE);
    place.write("new.txt", "not committed\n");
    let did = place.rivet(&["exec", "ci", "-f", "who=Ada"]);
    assert_eq!(did.code, 0, "{}{}", did.out, did.err);
    insta::assert_snapshot!(said(&did.out), @r"
    build │ hello Ada
    flaky │ command_failed: .rivet/ci.lua:25: `test 1 -ge 3` exited with code 1
    flaky │ command_failed: .rivet/ci.lua:25: `test 2 -ge 3` exited with code 1
    test (db=postgres, os=linux) │ postgres 1.2
    test (db=sqlite, os=linux) │ sqlite 1.2
    ");
    assert_eq!(place.read("built.txt"), "not committed\n");
    assert!(did.err.contains("ci #1 completed") && did.err.contains("4 succeeded"), "{}", did.err);
    let did = place.rivet(&["exec", "-f", "skip=yes", "--json"]);
    let run: serde_json::Value = serde_json::from_str(&did.out).expect("stdout is JSON alone");
    let states: Vec<_> = run["stages"].as_array().into_iter().flatten().map(|s| s["state"].clone()).collect();
    assert_eq!(states, ["succeeded", "skipped", "skipped", "succeeded"]);
}

#[test]
fn a_failure_is_rolled_back_in_reverse_and_is_exit_code_1() {
    let place = place(
        r#"
return pipeline.define({
    name = "x",
    stages = {
        { name = "a", script = function() process.run("echo a >> done") end, rollback = function() process.run("echo undo a >> done") end },
        { name = "b", script = function() process.run("echo b >> done") end, rollback = function() process.run("echo undo b >> done") end },
        { name = "c", script = function() process.run("echo it broke; exit 3") end },
        { name = "d", script = function() end },
    },
})
"#,
    );
    let did = place.rivet(&["exec", "ci"]);
    assert_eq!(did.code, 1, "{}", did.err);
    assert_eq!(place.read("done"), "a\nb\nundo b\nundo a\n");
    let end = did.err.split_once("\n\n").expect("a summary").1;
    insta::assert_snapshot!(stable(end), @r"
    ✗ c
      command_failed: `echo it broke; exit 3` exited with code 3
      $ echo it broke; exit 3 (exit code 3)
      at .rivet/ci.lua:7
      │ $ echo it broke; exit 3
      │ it broke
      │ command_failed: .rivet/ci.lua:7: `echo it broke; exit 3` exited with code 3

    ✗ ci #1 failed in N s: 2 rolled back, 1 failed, 1 skipped
    ");
}

#[test]
fn toml_runs_too_and_one_stage_alone() {
    let place = Place::new();
    place.write(
        ".rivet/ci.toml",
        "name = \"t\"\nversion = 1\n[steps.build]\nrun = [\"echo build\"]\n[steps.test]\ndepends_on = [\"build\"]\nrun = [\"echo test\", \"echo twice\"]\n",
    );
    let did = place.rivet(&["exec"]);
    assert_eq!((did.code, said(&did.out).as_str()), (0, "build │ build\ntest │ test\ntest │ twice"));
    let did = place.rivet(&["exec", "--stage", "test"]);
    assert_eq!((did.code, said(&did.out).as_str()), (0, "test │ test\ntest │ twice"));
    let did = place.rivet(&["exec", "--stage", "tset"]);
    assert_eq!((did.code, did.err.as_str()), (5, "rivet: ci has no stage 'tset'; did you mean 'test'?\n"));
}

#[test]
fn what_is_missing_or_wrong_is_said_before_anything_runs() {
    let place = place(
        r#"
return pipeline.define({
    name = "x",
    on = { manual = true },
    inputs = { replicas = { type = "number", min = 1, max = 5 } },
    stages = { { name = "a", secrets = { "KEY" }, script = function() process.run("touch ran") end } },
})
"#,
    );
    let did = place.rivet(&["exec", "ci", "-f", "replicas=9", "-f", "zone=a"]);
    assert_eq!(did.code, 2);
    insta::assert_snapshot!(did.err, @r"
    rivet: there is no input 'zone'; there are replicas
    rivet: input 'replicas' must be at most 5, got 9
    rivet: give inputs with -f NAME=VALUE
    ");
    let did = place.rivet(&["exec", "ci", "-f", "replicas=2"]);
    assert_eq!(did.code, 2);
    insta::assert_snapshot!(did.err, @r"
    rivet: stages need secrets that were not given: KEY
    rivet: give them with --secret NAME (from the environment) or --secrets-file FILE
    ");
    assert!(!place.work().join("ran").exists());
    place.write("secrets", "# mine\nKEY='hunter2'\n");
    assert_eq!(place.rivet(&["exec", "ci", "-f", "replicas=2", "--secrets-file", "secrets"]).code, 0);
}

#[test]
fn a_gate_is_not_passed_unasked() {
    let place = place(
        r#"
return pipeline.define({
    name = "x",
    stages = {
        { name = "build", script = function() end },
        { name = "deploy", approval = { required = true }, script = function() process.run("touch deployed") end },
    },
})
"#,
    );
    let did = place.rivet(&["exec"]);
    assert_eq!(did.code, 8, "{}", did.err);
    assert!(did.err.contains("stage deploy waits for approval; let it through with --approve deploy"), "{}", did.err);
    assert!(!place.work().join("deployed").exists());
    assert_eq!(place.rivet(&["exec", "--approve", "deploy"]).code, 0);
    assert!(place.work().join("deployed").exists());
}

#[test]
fn what_init_makes_checks_and_runs() {
    let place = Place::new();
    assert_eq!(place.rivet(&["init"]).code, 0);
    assert_eq!(place.rivet(&["check"]).code, 0);
    let did = place.rivet(&["exec", "ci"]);
    assert_eq!(did.code, 0, "{}{}", did.out, did.err);
}

#[test]
fn an_interrupt_stops_it_and_leaves_no_process() {
    // The number is how the processes are found again, so no other test may sleep as long.
    let seconds = format!("{}", 40_000 + std::process::id());
    let place = place(&format!(
        "return pipeline.define({{ name = 'x', stages = {{ {{ name = 'a', script = function() process.run('setsid sleep {seconds} & sleep {seconds}') end }} }} }})"
    ));
    let child = place.command(&["exec"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let sleeping = |seconds: &str| {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| *line == format!("sleep\0{seconds}\0").into_bytes()).count()
    };
    let started = Instant::now();
    while sleeping(&seconds) < 2 {
        assert!(started.elapsed() < Duration::from_secs(30), "the commands did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    crate::program::kill(&child, "INT");
    let did = did(child.wait_with_output().expect("it ends"));
    assert_eq!(did.code, 130, "{}", did.err);
    assert_eq!(sleeping(&seconds), 0);
    let leftovers = std::fs::read_dir(place.temporary()).map_or(0, Iterator::count);
    assert_eq!(leftovers, 0, "the records are thrown away");
}
