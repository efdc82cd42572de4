//! The catalogue of bad definitions (security.md, L1–L24): the exact codes and words.

mod support;

use insta::assert_snapshot;
use pipelines_spec::evaluate::{evaluate, evaluate_within};
use std::time::{Duration, Instant};
use support::{ask, problems, request};

/// The same with a tenth of a second instead of one: how long a loop runs does not change what is said of it.
fn hurried(text: &str) -> String {
    let response = evaluate_within(&request(".rivet/ci.lua", text), Duration::from_millis(100));
    response.problems.iter().map(ToString::to_string).collect()
}

/// The same with as long as it takes: a machine that is busy must not turn one bound into another.
fn patient(text: &str) -> String {
    let response = evaluate_within(&request(".rivet/ci.lua", text), Duration::from_secs(60));
    response.problems.iter().map(ToString::to_string).collect()
}

/// The first problem, without what follows 200 characters.
fn problem(text: &str) -> String {
    problems(text).chars().take(200).collect()
}

#[test]
fn l2_too_large() {
    let request = request(".rivet/ci.lua", &" ".repeat(262_145));
    assert_snapshot!(ask(&request).problems[0], @".rivet/ci.lua:1:1: config.too_large: .rivet/ci.lua is 262145 bytes; the limit is 262144.");
    let mut many = support::request(".rivet/ci.lua", "");
    many.sources.extend((0..64).map(|i| (format!(".rivet/lib/m{i}.lua"), String::new())));
    assert_snapshot!(ask(&many).problems[0], @".rivet/ci.lua:1:1: config.too_large: .rivet has 65 files; the limit is 64.");
    let mut heavy = support::request(".rivet/ci.lua", "");
    heavy.sources.extend((0..5).map(|i| (format!(".rivet/lib/m{i}.lua"), " ".repeat(250_000))));
    assert_snapshot!(ask(&heavy).problems[0], @".rivet/ci.lua:1:1: config.too_large: .rivet is 1250000 bytes in all; the limit is 1048576.");
    let fits = support::request(".rivet/ci.lua", &" ".repeat(262_144));
    assert_eq!(ask(&fits).problems[0].code, "plan.missing");
}

#[test]
fn l3_bytecode() {
    assert_snapshot!(problem("\u{1b}Lua"), @".rivet/ci.lua:1:1: config.binary: binary chunks are not accepted; commit Lua source text.");
    assert_snapshot!(problem("\u{6}\u{3}x"), @".rivet/ci.lua:1:1: config.binary: binary chunks are not accepted; commit Lua source text.");
}

#[test]
fn l4_to_l9_bounds() {
    let start = Instant::now();
    assert_snapshot!(problem("local x = 1\nwhile true do end"), @".rivet/ci.lua:2:1: config.timeout: evaluation exceeded 1 s");
    assert_snapshot!(hurried("while true do\n  pcall(function() while true do end end)\nend"), @".rivet/ci.lua:2:3: config.timeout: evaluation exceeded 1 s");
    assert_snapshot!(hurried("return xpcall(function() while true do end end, function() while true do end end)"), @".rivet/ci.lua:1:1: config.timeout: evaluation exceeded 1 s");
    assert_snapshot!(hurried("return ('a'):rep(1e5):find(('.-'):rep(25) .. 'b')"), @".rivet/ci.lua:1:1: config.timeout: evaluation exceeded 1 s");
    assert_snapshot!(hurried("return coroutine.wrap(function() while true do end end)()"), @".rivet/ci.lua:1:1: config.timeout: evaluation exceeded 1 s");
    assert_snapshot!(patient("return string.rep('x', 2^30)"), @".rivet/ci.lua:1:1: config.memory: evaluation exceeded 64 MiB");
    assert_snapshot!(patient("local t = {}\nfor i = 1, 1e9 do t[i] = {i} end"), @".rivet/ci.lua:2:1: config.memory: evaluation exceeded 64 MiB");
    assert_snapshot!(patient("local function f() return 1+f() end f()"), @".rivet/ci.lua:1:1: config.stack: stack overflow");
    assert_snapshot!(patient(&format!("return {}", "(".repeat(200_000))), @".rivet/ci.lua:1:1: config.syntax: exceeded allowed recursion depth; simplify your expression to make the code compile");
    assert_snapshot!(hurried("error(setmetatable({}, {__tostring = function() while true do end end}))"), @".rivet/ci.lua:1:1: config.timeout: evaluation exceeded 1 s");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn l10_a_huge_error() {
    let text = problems("error(('x'):rep(5e6))");
    assert_snapshot!(text.replace(&"x".repeat(8192), "<8192>"), @".rivet/ci.lua:1:1: config.error: <8192>… (truncated, 5000000 bytes)");
}

#[test]
fn l11_modules() {
    assert_snapshot!(problem("require('../x')"), @".rivet/ci.lua:1:1: module.not_found: module '../x' is not in .rivet/ and not a core module (process, container, fs, http, secret, artifact, cache, log).");
    assert_snapshot!(problem("\nrequire('/etc/passwd')"), @".rivet/ci.lua:2:1: module.not_found: module '/etc/passwd' is not in .rivet/ and not a core module (process, container, fs, http, secret, artifact, cache, log).");
    assert_snapshot!(problem("require('lib/hlper')\n---- .rivet/lib/helper.lua\nreturn 1"), @".rivet/ci.lua:1:1: module.not_found: module 'lib/hlper' is not in .rivet/ and not a core module (process, container, fs, http, secret, artifact, cache, log). Did you mean 'lib/helper'?");
    assert_snapshot!(problem("require('lib/a')\n---- .rivet/lib/a.lua\n\nreturn require('lib/b')\n---- .rivet/lib/b.lua\nrequire('lib/a')"), @".rivet/lib/b.lua:1:1: module.cycle: modules require each other in a cycle: lib/a → lib/b → lib/a.");
    let chain: String =
        (0..20).map(|i| format!("\n---- .rivet/lib/m{i}.lua\nreturn require('lib/m{}')", i + 1)).collect();
    assert_snapshot!(problem(&format!("require('lib/m0'){chain}")), @".rivet/lib/m15.lua:1:1: module.depth: require goes more than 16 modules deep, at 'lib/m16'.");
    assert_snapshot!(problem("require('lib/a')\n---- .rivet/lib/a.lua\n\nlocal x = = 1"), @".rivet/lib/a.lua:2:9: config.syntax: expected identifier when parsing expression, got '='");
    assert_snapshot!(problem("require('lib/a')\n---- .rivet/lib/a.lua\n\nerror('bad luck')"), @".rivet/lib/a.lua:2:1: config.error: bad luck");
}

#[test]
fn l12_what_is_not_there() {
    assert_snapshot!(problem("io.open('/etc/passwd')"), @".rivet/ci.lua:1:1: config.forbidden: 'io' is not available in Rivet; use fs inside a stage.");
    assert_snapshot!(problem("local x\nos.execute('id')"), @".rivet/ci.lua:2:1: config.forbidden: 'os' is not available in Rivet; use process inside a stage.");
    assert_snapshot!(problem("loadstring('return 1')()"), @".rivet/ci.lua:1:1: config.forbidden: 'loadstring' is not available in Rivet; use require for files under .rivet/lib.");
    assert_snapshot!(problem("getfenv()"), @".rivet/ci.lua:1:1: config.forbidden: 'getfenv' is not available in Rivet; pass values as parameters.");
    assert_snapshot!(problem("return math.random()"), @".rivet/ci.lua:1:1: config.forbidden: 'math.random' is not available in Rivet; a definition must always give the same plan.");
    assert_snapshot!(problem("debug.info(1, 'l')"), @".rivet/ci.lua:1:1: config.forbidden: 'debug' is not available in Rivet; errors show where they come from by themselves.");
    assert_snapshot!(problem("print('x')"), @".rivet/ci.lua:1:1: config.forbidden: 'print' is not available in Rivet; use log.info inside a stage.");
}

#[test]
fn core_modules_at_definition_time() {
    assert_snapshot!(problem("local version = process.run('git describe').stdout"), @".rivet/ci.lua:1:1: config.forbidden: core module 'process' is not available at definition time; use it inside a stage's script.");
    assert_snapshot!(problem("log.info('hello')"), @".rivet/ci.lua:1:1: config.forbidden: core module 'log' is not available at definition time; use it inside a stage's script.");
    assert_snapshot!(problem("local jobs = input.get('jobs', '4')"), @".rivet/ci.lua:1:1: config.forbidden: 'input' is not available at definition time; use it inside a condition or a stage's script.");
    assert_snapshot!(problem("local jobs = inputs.jobs"), @".rivet/ci.lua:1:1: config.forbidden: 'inputs' is not available at definition time; use it inside a condition or a stage's script.");
    assert_snapshot!(problem("secret.get('KEY')"), @".rivet/ci.lua:1:1: config.forbidden: core module 'secret' is not available at definition time; use it inside a stage's script.");
    assert_snapshot!(problem("if failed() then end"), @".rivet/ci.lua:1:1: config.forbidden: 'failed' is not available at definition time; use it inside a condition or a stage's script.");
}

/// A file with stages, each written as it is given.
fn stages(stages: &str) -> String {
    problems(&format!("return pipeline.define({{ stages = {{\n{stages}\n}} }})"))
}

#[test]
fn l13_too_many() {
    let text = "local stages = {}\nfor i = 1, 513 do stages[i] = { name = 's' .. i, run = 'true' } end\nreturn pipeline.define({ stages = stages })";
    assert_snapshot!(problems(text), @".rivet/ci.lua:3:35: plan.too_many_stages: pipeline 'ci' makes 513 stages; the limit is 512.");
    let axis: String = (0..257).map(|i| format!("{i},")).collect();
    assert_snapshot!(stages(&format!("{{ name = 'x', run = 'true', matrix = {{ n = {{ {axis} }} }} }}")), @".rivet/ci.lua:2:38: plan.too_many_stages: stage 'x' makes 257 legs; the limit is 256.");
    let axis: String = (0..10).map(|i| format!("{i},")).collect();
    let nine: String = (0..6)
        .map(|i| format!("{{ name = 'x{i}', run = 'true', matrix = {{ a = {{ {axis} }}, b = {{ {axis} }} }} }},\n"))
        .collect();
    assert_snapshot!(stages(&nine), @".rivet/ci.lua:2:10: plan.too_many_stages: pipeline 'ci' makes 600 stages; the limit is 512.");
    assert_snapshot!(stages("{ name = 'x', run = 'true', matrix = { a = { 1, 2 }, b = { 1, 2 } , exclude = { { a = 1 }, { a = 2 } } } }"), @".rivet/ci.lua:2:38: plan.missing: the matrix of stage 'x' makes no legs.");
}

#[test]
fn l14_order() {
    assert_snapshot!(stages("{ name = 'a', run = 'x', depends_on = { 'b' } },\n{ name = 'b', run = 'x', depends_on = { 'a' } }"), @".rivet/ci.lua:2:10: plan.cycle: stages form a cycle: a → b → a.");
    assert_snapshot!(stages("{ name = 'a', run = 'x', depends_on = { 'a' } }"), @".rivet/ci.lua:2:10: plan.cycle: stages form a cycle: a → a.");
    assert_snapshot!(stages("{ name = 'cc', run = 'x' },\n{ name = 'b', run = 'x', depends_on = { 'c' } }"), @".rivet/ci.lua:3:41: plan.unknown_stage: stage 'b' needs 'c', which does not exist. Did you mean 'cc'?");
}

#[test]
fn l15_names() {
    assert_snapshot!(stages("{ name = '../x', run = 'x' },\n{ name = '', run = 'x' },\n{ name = 'A b', run = 'x' }"), @r"
    .rivet/ci.lua:2:10: plan.name: stage name '../x' must match [A-Za-z0-9][A-Za-z0-9_.-]{0,62}.
    .rivet/ci.lua:3:10: plan.name: stage name '' must match [A-Za-z0-9][A-Za-z0-9_.-]{0,62}.
    .rivet/ci.lua:4:10: plan.name: stage name 'A b' must match [A-Za-z0-9][A-Za-z0-9_.-]{0,62}.
    ");
    assert_snapshot!(stages(&format!("{{ name = '{}', run = 'x' }}", "a".repeat(64))), @".rivet/ci.lua:2:10: plan.name: stage name 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' must match [A-Za-z0-9][A-Za-z0-9_.-]{0,62}.");
    assert_snapshot!(stages("{ name = 'a', run = 'x' },\n{ name = 'a', run = 'x' }"), @".rivet/ci.lua:3:10: plan.duplicate: two stages are called 'a' (the other is on line 2).");
}

#[test]
fn l16_unknown_keys() {
    assert_snapshot!(stages("{ name = 'test', run = 'x',\n  timout = 5 }"), @".rivet/ci.lua:3:3: plan.unknown_key: unknown key 'timout' in stage 'test'. Did you mean 'timeout'?");
    assert_snapshot!(problems("return pipeline.define({\n  stages = { { name = 'a', run = 'x' } },\n  trigger = {},\n  onn = {} })"), @r"
    .rivet/ci.lua:3:3: plan.unknown_key: unknown key 'trigger' in the pipeline. Known keys: name, description, on, concurrency, inputs, runner, tags, env, timeout, stages.
    .rivet/ci.lua:4:3: plan.unknown_key: unknown key 'onn' in the pipeline. Did you mean 'on'?
    ");
}

#[test]
fn l17_numbers() {
    for (value, expected) in [
        ("-1", "got -1."),
        ("0/0", "got nan."),
        ("1e308", "got 1e308."),
        ("'5'", "got '5'. Durations are written as '90s', '20m' or '1h30m'."),
        ("1.5", "got 1.5."),
        ("86401", "got 86401."),
        ("true", "got true."),
        ("{}", "got an empty table."),
    ] {
        let text = stages(&format!("{{ name = 'a', run = 'x', timeout = {value} }}"));
        let start = format!(
            ".rivet/ci.lua:2:36: plan.type: timeout must be a whole number of seconds from 1 to 86400, {expected}"
        );
        assert_eq!(text, start);
    }
    for value in ["1", "86400", "'20m'", "'24h'"] {
        assert_eq!(stages(&format!("{{ name = 'a', run = 'x', timeout = {value} }}")), "");
    }
}

#[test]
fn l18_values() {
    assert_snapshot!(stages("{ name = 'a', run = 'x' },\n{ name = 'b', run = 'x', env = { A = function() end } }"), @".rivet/ci.lua:3:38: plan.value: stages[2].env contains a function; only strings, numbers, booleans and tables are allowed.");
    assert_snapshot!(stages("{ name = 'a', run = 'x', env = coroutine.create(function() end) }"), @".rivet/ci.lua:2:32: plan.value: stages[1].env contains a coroutine; only strings, numbers, booleans and tables are allowed.");
    assert_snapshot!(problems("local t = {}\nt.t = t\nreturn pipeline.define({ stages = { { name = 'a', run = 'x', env = t } } })"), @".rivet/ci.lua:2:7: plan.value: stages[1].env.t contains itself.");
    assert_snapshot!(stages("{ name = 'a', run = 'x', env = { 'x', A = 'y' } }"), @".rivet/ci.lua:2:32: plan.value: stages[1].env mixes list items and named keys.");
    assert_snapshot!(stages("{ name = 'a', run = { 'x', nil, 'y' } }"), @".rivet/ci.lua:2:21: plan.value: stages[1].run is a list without an item 2.");
    assert_snapshot!(stages("{ name = 'a', run = '\\255' }"), @".rivet/ci.lua:2:21: plan.value: stages[1].run contains a string that is not UTF-8; only strings, numbers, booleans and tables are allowed.");
}

#[test]
fn l19_marks_and_line_ends() {
    let text = "\u{feff}return pipeline.define({\r\n  stages = { { name = 'a', run = 'x' } },\r\n})\r\n";
    assert_eq!(problems(text), "");
    let toml = "\u{feff}[steps.a]\r\nrun = ['x']\r\n";
    assert!(ask(&request(".rivet/ci.toml", toml)).problems.is_empty());
    let problem = pipelines_spec::evaluate::decode(".rivet/ci.lua", b"return 'abc\xff'").unwrap_err();
    assert_snapshot!(problem, @".rivet/ci.lua:1:12: config.encoding: byte 0xff at offset 11 is not UTF-8.");
}

#[test]
fn l23_images() {
    let long = "a".repeat(300);
    for image in ["-v/:/h", "a b", "docker://x", &long] {
        let text = stages(&format!("{{ name = 'a', run = 'x', container = '{image}' }}"));
        assert!(text.contains("plan.image: '") && text.ends_with(" is not an image reference."), "{text}");
    }
    assert_eq!(stages("{ name = 'a', run = 'x', container = 'rust:${event.branch}' }"), "");
}

#[test]
fn a_definition_leaves_nothing_behind() {
    let attack = "string.format = nil\ngetmetatable('').__index = nil\nreturn 1";
    assert!(problems(attack).contains("readonly"), "{}", problems(attack));
    let names = "pipeline = nil\nrequire = nil\nxpcall = nil\ntostring = nil\nerror('still told')";
    assert_snapshot!(problems(names), @".rivet/ci.lua:5:1: config.error: still told");
    let good = "return pipeline.define({ stages = { { name = ('%s'):format('a'), run = 'x' } } })";
    assert_eq!(problems(good), "");
}

#[test]
fn a_shorter_limit_holds_too() {
    let start = Instant::now();
    let request = request(".rivet/ci.lua", "while true do end");
    let response = evaluate_within(&request, Duration::from_millis(50));
    assert_eq!(response.problems[0].code, "config.timeout");
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    assert!(evaluate(&support::request(".rivet/x.lua", "return 1")).answer.is_none());
}

/// Definitions that are all tables, to make the search for places long.
#[test]
fn huge_definitions_are_answered_in_time() {
    let shapes = [
        format!("return pipeline.define({{ stages = {{ {} }} }})", "{ a = 1 },".repeat(25_000)),
        format!("return pipeline.define({{ stages = {{ {} }} }})", "{ a = x },".repeat(25_000)),
        format!("local t = {{}} for i = 1, 90000 do t[i] = {{ a = i }} end local u = {{ {} }} return pipeline.define({{ stages = t }})", "{ a = x },".repeat(25_000)),
        format!("return pipeline.define({{ stages = {} {} }})", "{".repeat(150), "}".repeat(150)),
        "local t = {} for i = 1, 200 do local u = {} for j = 1, 400 do u['k' .. j] = j end t[i] = u end return pipeline.define({ stages = t })".to_owned(),
        format!("return pipeline.define({{ stages = {{ {{ name = 'a', run = 'x', env = {{ {} }} }} }} }})", (0..9000).map(|i| format!("k{i} = {i}, ")).collect::<String>()),
        format!("return pipeline.define({{ stages = {{ {} }} }})", (0..600).map(|i| format!("{{ name = 's{i}', run = 'x', depends_on = {{ {} }} }},", (0..70).map(|j| format!("'s{j}',")).collect::<String>())).collect::<String>()),
    ];
    for text in shapes {
        let start = Instant::now();
        let problems = ask(&request(".rivet/ci.lua", &text)).problems;
        assert!(!problems.is_empty());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?} {}", start.elapsed(), &text[..60]);
    }
}

#[test]
fn huge_documents_are_answered_in_time() {
    let shapes = [
        format!("a = {}", "[".repeat(200_000)),
        format!("a = {}", "{a=".repeat(80_000)),
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("[[{}a]]", "a.".repeat(100_000)),
        (0..20_000).map(|i| format!("[s{i}]\n")).collect(),
        "[[steps.a]]\n".repeat(20_000),
        (0..9000).map(|i| format!("[steps.s{i}]\nrun='x'\n")).collect(),
    ];
    for text in shapes {
        let start = Instant::now();
        let problems = ask(&request(".rivet/ci.toml", &text)).problems;
        assert!(!problems.is_empty());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?} {}", start.elapsed(), &text[..60]);
    }
}
