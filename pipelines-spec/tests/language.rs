//! Three spellings of one pipeline are one pipeline; the same file always gives the same plan; nothing upsets the evaluator.

mod support;

use pipelines_spec::evaluate::{evaluate, evaluate_within};
use proptest::prelude::*;
use std::time::{Duration, Instant};
use support::{ask, pipeline, placeless, request};

const DEFINE: &str = r#"return pipeline.define({
    name = "Build", description = "Builds it",
    on = { push = { branches = { "main" } }, manual = true },
    concurrency = { group = "ci-${ref}", cancel_in_progress = true },
    inputs = { jobs = { type = "number", default = 4, options = { 2, 4 } } },
    runner = { { key = "os", value = "linux" } },
    tags = { { key = "capability", value = "docker" } },
    env = { CI = true, N = 4 }, timeout = "2h",
    stages = {
        { name = "build", run = { "make", "make check" }, container = "rust:1", timeout = "20m" },
        { name = "test", run = { "make test" }, condition = "input.get('jobs') == '4'",
          matrix = { db = { "a", "b" }, exclude = { { db = "b" } }, include = { { db = "c", x = 1 } }, max_parallel = 2, fail_fast = false },
          retry = { max_attempts = 3, on = { "timeout" }, backoff = { initial = "5s", max = "5m" } },
          services = { db = { image = "postgres:16", env = { A = "b" }, ready = { command = { "pg_isready" } } } } },
        { name = "deploy", run = { "./deploy" }, depends_on = { "test" }, environment = "prod", secrets = { "KEY" },
          approval = { reviewers = { "devops" }, count = 2, expires = "72h" },
          rollback = { run = { "./undo" }, timeout = 60 } },
        { name = "e2e", pipeline = "e2e", inputs = { a = { 1, 2 } } },
    },
})"#;

const BUILDER: &str = r#"return pipeline.builder()
    :name("Build"):description("Builds it")
    :on({ push = { branches = { "main" } }, manual = true })
    :concurrency({ group = "ci-${ref}", cancel_in_progress = true })
    :input("jobs", { type = "number", default = 4, options = { 2, 4 } })
    :runner({ { key = "os", value = "linux" } })
    :tag({ key = "capability", value = "docker" })
    :env({ CI = true, N = 4 }):timeout("2h")
    :stage({ name = "build", run = { "make", "make check" }, container = "rust:1", timeout = "20m" })
    :stage({ name = "test", run = { "make test" }, condition = "input.get('jobs') == '4'",
          matrix = { db = { "a", "b" }, exclude = { { db = "b" } }, include = { { db = "c", x = 1 } }, max_parallel = 2, fail_fast = false },
          retry = { max_attempts = 3, on = { "timeout" }, backoff = { initial = "5s", max = "5m" } },
          services = { db = { image = "postgres:16", env = { A = "b" }, ready = { command = { "pg_isready" } } } } })
    :stage({ name = "deploy", run = { "./deploy" }, depends_on = { "test" }, environment = "prod", secrets = { "KEY" },
          approval = { reviewers = { "devops" }, count = 2, expires = "72h" },
          rollback = { run = { "./undo" }, timeout = 60 } })
    :stage({ name = "e2e", pipeline = "e2e", inputs = { a = { 1, 2 } } })
    :build()"#;

const TOML: &str = r#"version = 1
name = "Build"
description = "Builds it"
on = { push = { branches = ["main"] }, manual = true }
concurrency = { group = "ci-${ref}", cancel_in_progress = true }
runner = [{ key = "os", value = "linux" }]
tags = [{ key = "capability", value = "docker" }]
env = { CI = true, N = 4 }
timeout = "2h"

[inputs.jobs]
type = "number"
default = 4
options = [2, 4]

[steps.build]
run = ["make", "make check"]
container = "rust:1"
timeout = "20m"

[steps.test]
run = "make test"
depends_on = ["build"]
if = "input.get('jobs') == '4'"
matrix = { db = ["a", "b"], exclude = [{ db = "b" }], include = [{ db = "c", x = 1 }], max_parallel = 2, fail_fast = false }
retry = { max_attempts = 3, on = ["timeout"], backoff = { initial = "5s", max = "5m" } }

[steps.test.services.db]
image = "postgres:16"
env = { A = "b" }
ready = { command = ["pg_isready"] }

[steps.deploy]
depends_on = ["test"]
run = ["./deploy"]
environment = "prod"
secrets = ["KEY"]
approval = { reviewers = ["devops"], count = 2, expires = "72h" }
rollback = { run = ["./undo"], timeout = 60 }

[steps.e2e]
depends_on = ["deploy"]
pipeline = "e2e"
inputs = { a = [1, 2] }
"#;

#[test]
fn define_builder_and_toml_give_the_same_pipeline() {
    let define = placeless(pipeline(".rivet/ci.lua", DEFINE));
    assert_eq!(define, placeless(pipeline(".rivet/ci.lua", BUILDER)));
    assert_eq!(define.replace("ci.lua", "ci.toml"), placeless(pipeline(".rivet/ci.toml", TOML)));
}

#[test]
fn the_same_mistakes_read_the_same_in_both_languages() {
    let lua = "return pipeline.define({ stages = { { name = 'a', run = 'x', timout = 5, retry = { max_attempts = 0 } },\n{ name = 'b', run = 'x', depends_on = { 'c' }, container = 'a b' } } })";
    let toml = "[steps.a]\nrun = 'x'\ntimout = 5\nretry = { max_attempts = 0 }\n[steps.b]\nrun = 'x'\ndepends_on = ['c']\ncontainer = 'a b'\n";
    let said = |file: &str, text: &str| {
        let mut said: Vec<String> = ask(&request(file, text))
            .problems
            .into_iter()
            .map(|problem| format!("{} {} {}", problem.code, problem.message, problem.hint.unwrap_or_default()))
            .collect();
        said.sort();
        said
    };
    let found = said(".rivet/ci.lua", lua);
    assert_eq!(found, said(".rivet/ci.toml", toml));
    assert_eq!(found.len(), 4);
}

#[test]
fn tables_are_gone_through_in_one_order_and_have_no_addresses() {
    let text = "local out = {}
        local t = { zeta = 1, alpha = 2, [3] = 'x', 'one', 'two', [10] = 'ten', [true] = 'yes' }
        for key, value in pairs(t) do out[#out + 1] = tostring(key) .. '=' .. tostring(value) end
        local key, value = next(t)
        out[#out + 1] = tostring(key) .. tostring(value) .. tostring(next(t, 'zeta')) .. tostring(next({}))
        out[#out + 1] = tostring({}) .. ' ' .. string.format('%s', out) .. ' ' .. tostring(print)
        error(table.concat(out, ' '), 0)";
    let said = support::problems(text);
    insta::assert_snapshot!(said, @".rivet/ci.lua:7:9: config.error: 1=one 2=two 3=x 10=ten alpha=2 zeta=1 true=yes 1onetruenil table: 0001 table: 0002 function: 0003");
    for _ in 0..5 {
        assert_eq!(support::problems(text), said);
    }
}

#[test]
fn the_same_file_gives_the_same_answer() {
    for (file, text) in [(".rivet/ci.lua", include_str!("cases/example.lua")), (".rivet/ci.toml", TOML)] {
        let first = serde_json::to_string(&evaluate(&request(file, text))).unwrap();
        for _ in 0..5 {
            assert_eq!(serde_json::to_string(&evaluate(&request(file, text))).unwrap(), first);
        }
    }
}

/// Long enough for anything sensible; the second a definition really has would make a loop slow to test.
const SHORT: Duration = Duration::from_millis(200);

/// Words of the language in an order nobody would write.
fn nonsense() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "return",
        "pipeline.define",
        "pipeline.builder()",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "=",
        ",",
        "name",
        "stages",
        "'a'",
        "'b",
        "\"",
        "run",
        "function()",
        "end",
        "if",
        "then",
        "else",
        "for i = 1, 10 do",
        "while true do",
        "local x",
        "1",
        "nil",
        ":stage",
        ":build()",
        "--",
        "[[",
        "]]",
        "..",
        "error",
        "require('lib/a')",
        "pairs",
        "\n",
        "depends_on",
        "#",
        "setmetatable({}, {__index = function(t) return t.x end})",
        "string.rep('x', 1e6)",
        "é",
        "\0",
        "pcall",
        "coroutine.wrap",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_is_answered_in_time(text in prop_oneof![nonsense(), any::<String>()], toml in any::<bool>()) {
        let start = Instant::now();
        let file = if toml { ".rivet/ci.toml" } else { ".rivet/ci.lua" };
        let response = evaluate_within(&request(file, &text), SHORT);
        prop_assert!(response.answer.is_some() || !response.problems.is_empty());
        prop_assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn broken_definitions_are_answered_in_time(cut in 0usize..2000, length in 0usize..40, word in nonsense()) {
        let source: Vec<char> = include_str!("cases/example.lua").chars().collect();
        let cut = cut.min(source.len());
        let rest = (cut + length).min(source.len());
        let text: String = source[..cut].iter().copied().chain(word.chars()).chain(source[rest..].iter().copied()).collect();
        let start = Instant::now();
        let response = evaluate_within(&request(".rivet/ci.lua", &text), SHORT);
        prop_assert!(response.answer.is_some() || !response.problems.is_empty());
        prop_assert!(start.elapsed() < Duration::from_secs(2));
    }
}
