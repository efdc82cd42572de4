//! What stage scripts can do, and what their authors read when they fail.

mod support;

use insta::assert_snapshot;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Conclusion, FinishRequest, Job, JobKind};
use serde_json::{Value, json};
use support::{FakeServer, TestRunner, lua, script};

async fn run(job: Job) -> (FinishRequest, String) {
    let server = FakeServer::start().await;
    let id = job.id.clone();
    server.queue(job);
    let runner = TestRunner::start(&server);
    let finish = server.finished(&id).await;
    runner.end().await;
    (finish, server.log(&id))
}

async fn outputs(job: Job) -> Value {
    let (finish, log) = run(job).await;
    assert_eq!(finish.outcome.error, None, "{log}");
    Value::Object(finish.outcome.outputs)
}

async fn error(body: &str) -> String {
    let (finish, log) = run(script("j1", body)).await;
    assert_eq!(finish.outcome.conclusion, Conclusion::Failed, "{log}");
    let error = finish.outcome.error.expect("an error");
    format!("{} at {}: {}", error.class, error.at.as_deref().unwrap_or("?"), error.message)
}

#[tokio::test]
async fn an_error_names_the_authors_line() {
    assert_snapshot!(error("local t = nil\nreturn t.x").await, @"script_error at .rivet/ci.lua:5: attempt to index nil with 'x'");
}

#[tokio::test]
async fn a_raised_message_names_the_authors_line() {
    assert_snapshot!(error("error('no luck')").await, @"script_error at .rivet/ci.lua:4: no luck");
}

#[tokio::test]
async fn a_failing_command_is_not_the_scripts_error() {
    assert_snapshot!(error("\nprocess.run('exit 9')").await, @"command_failed at .rivet/ci.lua:5: `exit 9` exited with code 9");
}

#[tokio::test]
async fn a_missing_program_says_so() {
    assert_snapshot!(error("process.run({ 'no-such-program' })").await, @"command_failed at .rivet/ci.lua:4: command not found: no-such-program");
}

#[tokio::test]
async fn a_command_has_its_own_timeout() {
    let text = error("process.run({ cmd = 'sleep', args = { 60 }, timeout = '100ms' })").await;
    assert!(text.starts_with("timeout at .rivet/ci.lua:4: `sleep 60` took longer than its timeout"), "{text}");
}

#[tokio::test]
async fn a_misspelt_option_is_named() {
    let text = error("process.run({ cmd = 'true', timout = 5 })").await;
    assert!(text.starts_with("script_error at .rivet/ci.lua:4: process.run: unknown key 'timout'"), "{text}");
}

#[tokio::test]
async fn a_directory_outside_the_workspace_is_refused() {
    assert_snapshot!(error("process.run({ 'ls', cwd = '../home' })").await, @"script_error at .rivet/ci.lua:4: '../home' is outside the workspace");
}

#[tokio::test]
async fn modules_of_later_versions_say_that_they_are_missing() {
    let text = error("fs.read('x')").await;
    assert!(text.contains("'fs' is not available on this runner"), "{text}");
}

#[tokio::test]
async fn outputs_have_names_and_a_limit() {
    assert_snapshot!(error("return 'text'").await, @"script_error at ?: a script returns a table of outputs or nothing, not a string");
    assert_snapshot!(error("return { big = string.rep('x', 2^21) }").await, @"limit at ?: the script's outputs are larger than 1048576 bytes; write them to a file");
}

#[tokio::test]
async fn an_error_of_a_command_can_be_caught_and_read() {
    let body = r#"
        local ok, failure = pcall(process.run, { "sh", "-c", "echo why >&2; exit 7" })
        return { ok = ok, class = failure.class, code = failure.exit_code, tail = failure.tail, text = tostring(failure) }
    "#;
    let expected = json!({
        "ok": false, "class": "command_failed", "code": 7, "tail": "why",
        "text": "`sh -c 'echo why >&2; exit 7'` exited with code 7",
    });
    assert_eq!(outputs(script("j1", body)).await, expected);
}

#[tokio::test]
async fn commands_get_what_they_are_given() {
    let body = r#"
        local out = process.run({ "sh", "-c", "cat; echo $A $PWD_IS", stdin = "in ", env = { A = "b", PWD_IS = 1 } })
        process.run("mkdir -p sub")
        local where = process.run({ "pwd", cwd = "sub" }).stdout
        local lines = process.run({ cmd = "echo one && echo two", shell = true }).stdout
        local silent = process.run({ "echo", "x", capture = false }).stdout
        return { out = out.stdout, where = where:match("[^/]*$"), lines = lines, silent = silent, home = env.HOME == nil }
    "#;
    let expected = json!({ "out": "in b 1\n", "where": "sub\n", "lines": "one\ntwo\n", "silent": "", "home": true });
    assert_eq!(outputs(script("j1", body)).await, expected);
}

#[tokio::test]
async fn parallel_commands_overlap_and_keep_their_order() {
    // Each waits for the other's file, so one after the other would never end.
    let body = r#"
        local meet = "touch $MINE; while ! test -e $THEIRS; do sleep 0.02; done; printf $MINE"
        local results = process.parallel({ { "a", "b" }, { "b", "a" } }, function(pair, index)
            local out = process.run({ "sh", "-c", meet, env = { MINE = pair[1], THEIRS = pair[2] } }).stdout
            local inner = process.parallel({ 1, 2 }, function(n) return process.run("printf " .. n).stdout end, { max = 1 })
            return out .. index .. table.concat(inner)
        end)
        return { results = results }
    "#;
    assert_eq!(outputs(script("j1", body)).await, json!({ "results": ["a112", "b212"] }));
}

#[tokio::test]
async fn a_failure_in_parallel_fails_the_script_once_the_others_are_done() {
    let body = r#"
        process.parallel({ 1, 2, 3 }, function(n)
            process.run(n == 1 and "exit 5" or "touch done" .. n)
        end, { max = 2 })
    "#;
    assert_snapshot!(error(body).await, @"command_failed at .rivet/ci.lua:6: `exit 5` exited with code 5");
}

#[tokio::test]
async fn a_rollback_sees_what_the_stage_returned() {
    let source = r#"
        local lib = require("lib/names")
        return pipeline.define({ name = "CI", stages = { {
            name = "build",
            script = function() error("not this one") end,
            rollback = function(ctx) return { undone = ctx.outputs.version .. lib.suffix } end,
        } } })
    "#;
    let mut job = Job { kind: JobKind::Rollback, outputs: Some(json!({"version": "1.2"})), ..lua("j1", source) };
    job.sources.insert(".rivet/lib/names.lua".into(), "return { suffix = '!' }".into());
    assert_eq!(outputs(job).await, json!({ "undone": "1.2!" }));
}

#[tokio::test]
async fn a_busy_loop_ends_with_the_stages_timeout() {
    let job =
        Job { timeout_seconds: Some(1), ..script("j1", "while true do pcall(function() while true do end end) end") };
    let (finish, _) = run(job).await;
    let error = finish.outcome.error.expect("an error");
    assert_eq!(
        (error.class, error.message.as_str()),
        (ErrorClass::Timeout, "the stage took longer than its timeout of 1 s")
    );
}

#[tokio::test]
async fn nothing_of_this_machine_is_in_reach_of_lua() {
    let body = r#"
        for _, name in { "io", "os", "debug", "loadstring", "getfenv" } do
            local ok = pcall(function() return _G[name].x or _G[name]() end)
            assert(not ok, name)
        end
        return {}
    "#;
    assert_eq!(outputs(script("j1", body)).await, json!({}));
}
