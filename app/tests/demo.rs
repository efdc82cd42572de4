//! The demo as people run it: the real program, the real git, a real runner.

use std::path::Path;
use std::process::{Command, Output};

fn demo(dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivet"));
    command.args(["demo", "--exit", "--port", "0", "--dir"]).arg(dir).env_remove("RIVET_LOG").env("NO_COLOR", "1");
    command.output().expect("the demo starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_push_becomes_a_finished_run_and_a_broken_one_ends_with_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let first = demo(dir.path());
    let said = text(&first);
    assert_eq!(first.status.code(), Some(0), "{said}");
    for line in
        ["remote: rivet: ci #1: http://127.0.0.1:", "✓ build", "✓ test (suite=unit)", "✓ package", "✓ ci #1 completed"]
    {
        assert!(said.contains(line), "'{line}' is missing in:\n{said}");
    }

    // People go on working in the clone the demo leaves them.
    let script = dir.path().join("hello/build.sh");
    std::fs::write(&script, "#!/bin/sh\necho 'no such compiler' >&2\nexit 3\n").unwrap();
    let second = demo(dir.path());
    let said = text(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    for line in ["✗ build failed", "no such compiler", "✗ ci #2 failed"] {
        assert!(said.contains(line), "'{line}' is missing in:\n{said}");
    }
}

#[test]
fn a_definition_that_does_not_load_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(demo(dir.path()).status.code(), Some(0));
    std::fs::write(dir.path().join("hello/.rivet/ci.lua"), "return pipeline.define({ stags = {} })\n").unwrap();
    let broken = demo(dir.path());
    let said = text(&broken);
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.contains("the definition has 2 errors, first: .rivet/ci.lua:1:"), "{said}");
}
