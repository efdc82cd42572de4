//! What is asked of a definition after its plan was made: conditions, axes, validators; and the runner's way to scripts.

mod support;

use pipelines_spec::evaluate::{Answer, Context, Question, Request};
use pipelines_spec::lua::{Mode, load_definition, new_vm};
use serde_json::{Value, json};
use support::{ask, context, push, request};

fn facts() -> Context {
    context(json!({
        "inputs": { "skip": true, "jobs": 4, "targets": ["a", "b"] },
        "needs": {
            "build": { "state": "succeeded", "outputs": { "dbs": ["sqlite", "postgres"], "version": "1.2" } },
            "lint": { "state": "failed", "outputs": {} },
        },
        "matrix": { "os": "linux" },
    }))
}

/// Whether a condition holds, or what is wrong with it.
fn holds(mut request: Request, stage: &str) -> Result<bool, String> {
    request.question = Question::Condition { stage: stage.into(), context: facts() };
    let response = ask(&request);
    match response.answer {
        Some(Answer::Condition { holds }) => Ok(holds),
        _ => Err(response.problems.iter().map(ToString::to_string).collect()),
    }
}

const EXPRESSIONS: &[(&str, bool)] = &[
    ("input.get('skip') == 'true'", true),
    ("inputs.skip", true),
    ("input.get('jobs') == '4' and inputs.jobs == 4", true),
    ("input.get('targets') == 'a,b'", true),
    ("input.get('absent', '7') == '7' and input.get('absent') == nil", true),
    ("needs.build.state == 'succeeded' and needs.build.outputs.version == '1.2'", true),
    ("needs.nothing == nil", true),
    ("matrix.os == 'linux'", true),
    ("event.branch == 'main' and event.sha:sub(1, 4) == '1a2b'", true),
    ("always()", true),
    ("failed()", true),
    ("failed('build')", false),
    ("succeeded()", false),
    ("succeeded('build')", true),
    ("nil", false),
    ("event.branch ~= 'main'", false),
];

#[test]
fn conditions_read_the_same_in_all_three_spellings() {
    for (expression, expected) in EXPRESSIONS {
        let function = format!(
            "return pipeline.define({{ stages = {{ {{ name = 'a', run = 'x', condition = function() return {expression} end }} }} }})"
        );
        let text = format!(
            "return pipeline.define({{ stages = {{ {{ name = 'a', run = 'x', condition = [[{expression}]] }} }} }})"
        );
        let toml = format!("[steps.a]\nrun = 'x'\nif = \"{expression}\"\n");
        assert_eq!(holds(request(".rivet/ci.lua", &function), "a"), Ok(*expected), "{expression}");
        assert_eq!(holds(request(".rivet/ci.lua", &text), "a"), Ok(*expected), "{expression}");
        assert_eq!(holds(request(".rivet/ci.toml", &toml), "a"), Ok(*expected), "{expression}");
    }
}

#[test]
fn a_condition_may_use_its_parameter_and_iterate() {
    let text = "return pipeline.define({ stages = { { name = 'a', run = 'x', condition = function(ctx)
        local names = {}
        for name, need in pairs(needs) do names[#names + 1] = name .. '=' .. need.state end
        for name in inputs do names[#names + 1] = name end
        local said = table.concat(names, ' ')
        assert(said == 'build=succeeded lint=failed jobs skip targets', said)
        return ctx.needs.lint.state == 'failed' and ctx.inputs.jobs == 4 and ctx.event.name == 'push'
    end } } })";
    assert_eq!(holds(request(".rivet/ci.lua", text), "a"), Ok(true));
}

#[test]
fn a_condition_that_fails_says_where() {
    let lua = "return pipeline.define({ stages = {\n  { name = 'a', run = 'x',\n    condition = function()\n      return needs.build.output.version\n    end } } })";
    insta::assert_snapshot!(holds(request(".rivet/ci.lua", lua), "a").unwrap_err(), @".rivet/ci.lua:4:7: config.error: attempt to index nil with 'version'");
    let toml = "[steps.a]\nrun = 'x'\nif = \"needs.build.output.version\"\n";
    insta::assert_snapshot!(holds(request(".rivet/ci.toml", toml), "a").unwrap_err(), @".rivet/ci.toml:1:8: config.error: attempt to index nil with 'version'");
    let core = "return pipeline.define({ stages = {\n  { name = 'a', run = 'x', condition = function() return process.run('x') end } } })";
    insta::assert_snapshot!(holds(request(".rivet/ci.lua", core), "a").unwrap_err(), @".rivet/ci.lua:2:3: config.forbidden: core module 'process' is not available in conditions, axes and validators; use it inside a stage's script.");
    insta::assert_snapshot!(holds(request(".rivet/ci.toml", toml), "b").unwrap_err(), @".rivet/ci.toml:1:1: plan.unknown_stage: .rivet/ci.toml has no stage 'b'.");
    let slow = "return pipeline.define({ stages = {\n  { name = 'a', run = 'x', condition = function() while true do end end } } })";
    insta::assert_snapshot!(holds(request(".rivet/ci.lua", slow), "a").unwrap_err(), @".rivet/ci.lua:2:3: config.timeout: evaluation exceeded 1 s");
    assert_eq!(holds(request(".rivet/ci.toml", "[steps.a]\nrun = 'x'\n"), "a"), Ok(true));
}

fn axes(matrix: &str) -> Result<Value, String> {
    let text =
        format!("return pipeline.define({{ stages = {{ {{ name = 'a', run = 'x', matrix = {{ {matrix} }} }} }} }})");
    let mut request = request(".rivet/ci.lua", &text);
    request.question = Question::Axes { stage: "a".into(), context: facts() };
    let response = ask(&request);
    match response.answer {
        Some(Answer::Axes { axes }) => Ok(json!(axes)),
        _ => Err(response.problems.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn axes_may_be_functions_of_what_came_before() {
    let found = axes(
        "db = function(ctx) return ctx.needs.build.outputs.dbs end, n = function() return { 1, true, 'x' } end, os = { 'linux' }",
    );
    assert_eq!(found, Ok(json!({ "db": ["sqlite", "postgres"], "n": [1, true, "x"] })));
    assert_eq!(axes("db = function() return {} end"), Ok(json!({ "db": [] })));
    insta::assert_snapshot!(axes("db = function() return 'sqlite' end").unwrap_err(), @".rivet/ci.lua:1:1: plan.type: the function of matrix.db of stage 'a' must return a list of strings, numbers or booleans, got a string.");
    insta::assert_snapshot!(axes("db = function() return { {} } end").unwrap_err(), @".rivet/ci.lua:1:1: plan.type: the function of matrix.db of stage 'a' must return a list of strings, numbers or booleans, got a list with a table.");
    insta::assert_snapshot!(axes("db = function() local t = {} for i = 1, 300 do t[i] = i end return t end").unwrap_err(), @".rivet/ci.lua:1:1: plan.too_many_stages: matrix.db of stage 'a' makes more than 256 legs; the limit is 256.");
}

#[test]
fn validators_see_typed_values() {
    let text = include_str!("cases/example.lua");
    let mut request = request(".rivet/ci.lua", text);
    let mut ask_with = |inputs: Value| {
        request.question = Question::Validate { inputs: serde_json::from_value(inputs).unwrap() };
        match ask(&request).answer {
            Some(Answer::Validate { errors }) => json!(errors),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask_with(json!({ "replicas": 3, "branch": "x" })), json!({}));
    assert_eq!(ask_with(json!({ "replicas": 4 })), json!({ "replicas": "must be odd" }));
    assert_eq!(ask_with(json!({ "replicas": null })), json!({}));
}

#[test]
fn the_runner_finds_scripts_and_its_modules_are_the_ones_it_registered() {
    let text = "local prefix = require('lib/p')\nreturn pipeline.define({ stages = {
        { name = 'a', script = function(ctx) return process.run(prefix .. ctx.stage) end, rollback = function() return 'back' end },
        { name = 'b', run = 'x', rollback = { script = function() return 'b back' end } },
        { name = 'c', script = function() return fs.read('x') end },
    } })\n---- .rivet/lib/p.lua\nreturn 'make '";
    let request = request(".rivet/ci.lua", text);
    let lua = new_vm(Mode::Runtime).unwrap();
    let process = lua.create_table().unwrap();
    process.set("run", lua.create_function(|_, line: String| Ok(format!("ran {line}"))).unwrap()).unwrap();
    lua.globals().set("process", process).unwrap();
    let definition = load_definition(&lua, &request.sources, &request.file, &push(), Mode::Runtime).unwrap();
    let ctx = lua.create_table().unwrap();
    ctx.set("stage", "a").unwrap();
    assert_eq!(definition.script("a").unwrap().call::<String>(ctx).unwrap(), "ran make a");
    assert_eq!(definition.rollback("a").unwrap().call::<String>(()).unwrap(), "back");
    assert_eq!(definition.rollback("b").unwrap().call::<String>(()).unwrap(), "b back");
    assert!(definition.script("b").is_none() && definition.script("z").is_none());
    let error = definition.script("c").unwrap().call::<String>(()).unwrap_err();
    assert!(error.to_string().contains("core module 'fs' is not available on this runner."), "{error}");
}
