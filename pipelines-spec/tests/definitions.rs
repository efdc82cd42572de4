//! The definitions this repository itself holds: its own pipeline, the templates of `rivet init`, the documentation's.

mod support;

use insta::assert_snapshot;
use pipelines_spec::inputs::parse;
use pipelines_spec::instantiate::instantiate;
use pipelines_spec::lua::modules::{CLASSES, Class, MODULES, Module};
use pipelines_spec::plan::{Action, Plan};
use pipelines_spec::templates::TEMPLATES;
use serde_json::Map;
use std::fmt::Write as _;
use std::path::PathBuf;
use support::{pipeline, push};

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The plan of a definition for a push to `main`, nothing given.
fn plan(file: &str, text: &str) -> Plan {
    let pipeline = pipeline(file, text);
    let inputs = parse(&pipeline.inputs, &Map::new()).unwrap();
    instantiate(&pipeline, &push(), inputs).unwrap_or_else(|problems| panic!("{file}: {problems:?}"))
}

fn graph(plan: &Plan) -> String {
    plan.stages.iter().map(|s| format!("{} after [{}]\n", s.name, s.stage.depends_on.join(", "))).collect()
}

#[test]
fn rivets_own_pipeline_runs_what_ci_runs() {
    let plan = plan(".rivet/ci.lua", &read(".rivet/ci.lua"));
    assert_snapshot!(graph(&plan), @"
    fmt after []
    clippy after [fmt]
    deny after [fmt]
    test after [clippy, deny]
    ");
    let ci = read(".ci/run");
    for stage in &plan.stages {
        let Action::Run { run } = &stage.stage.action else { panic!("{} has no commands", stage.name) };
        for line in run {
            let command = line.lines().last().unwrap();
            assert!(ci.lines().any(|l| l.trim() == command), ".ci/run does not have: {command}");
        }
    }
}

#[test]
fn the_templates_are_the_same_pipeline() {
    let graphs: Vec<String> = TEMPLATES.iter().map(|(_, file, text)| graph(&plan(file, text))).collect();
    assert_snapshot!(graphs[0], @"
    build after []
    test after [build]
    ");
    assert_eq!(graphs[0], graphs[1]);
}

/// Every whole definition in the documentation is one.
#[test]
fn the_examples_of_the_documentation_are_good() {
    let docs = read("docs/pipelines.md");
    let mut seen = 0;
    for (language, start) in [("lua", "return pipeline"), ("toml", "[steps.")] {
        for block in docs.split(&format!("```{language}\n")).skip(1) {
            let text = block.split("```").next().unwrap();
            if text.contains(start) {
                seen += 1;
                plan(&format!(".rivet/example{seen}.{language}"), text);
            }
        }
    }
    assert!(seen >= 4, "{seen}");
}

/// The tables are written from the same data that makes the stubs and the schema.
#[test]
fn the_tables_of_the_documentation_are_current() {
    let old = read("docs/pipelines.md");
    let mut new = String::new();
    let mut rest = old.as_str();
    while let Some(at) = rest.find("<!-- table ") {
        let (before, marked) = rest.split_at(at);
        let (mark, after) = marked.split_once('\n').unwrap();
        let name = mark.trim_start_matches("<!-- table ").trim_end_matches(" -->");
        let end = after.find("<!-- end -->").unwrap_or_else(|| panic!("the table of {name} has no end"));
        let _ = write!(new, "{before}{mark}\n{}", table(name));
        rest = &after[end..];
    }
    new.push_str(rest);
    if std::env::var_os("UPDATE_FILES").is_some() {
        std::fs::write(path("docs/pipelines.md"), &new).unwrap();
    }
    assert!(
        read("docs/pipelines.md") == new,
        "docs/pipelines.md is old: run UPDATE_FILES=1 cargo test -p pipelines-spec"
    );
    for class in CLASSES.iter().filter(|class| !class.fields.is_empty()) {
        assert!(new.contains(&format!("<!-- table {} -->", class.name)), "docs/pipelines.md lacks {}", class.name);
    }
    for module in MODULES {
        assert!(new.contains(&format!("`{}", module.name)), "docs/pipelines.md lacks {}", module.name);
    }
}

fn table(name: &str) -> String {
    if name == "modules" {
        return modules();
    }
    let class = CLASSES.iter().find(|class| class.name == name).unwrap_or_else(|| panic!("no class {name}"));
    class_table(class)
}

fn class_table(class: &Class) -> String {
    let mut out = String::from("| key | type | meaning |\n| --- | --- | --- |\n");
    for field in class.fields {
        let key = match field.name {
            "[string]" => "any other".to_owned(),
            "[integer]" => "list items".to_owned(),
            name if field.optional => format!("`{name}`"),
            name => format!("`{name}` (required)"),
        };
        let _ = writeln!(out, "| {key} | `{}` | {} |", cell(field.kind), cell(field.doc));
    }
    out
}

fn modules() -> String {
    let mut out = String::from("| name | what |\n| --- | --- |\n");
    for module in MODULES.iter().filter(|m| m.name != "pipeline") {
        for (name, doc) in entries(module) {
            let _ = writeln!(out, "| `{}` | {} |", cell(&name), cell(&doc));
        }
    }
    out
}

fn entries(module: &Module) -> Vec<(String, String)> {
    if module.functions.is_empty() {
        return vec![(module.name.to_owned(), module.doc.to_owned())];
    }
    let functions = module.functions.iter().map(|function| {
        let params: Vec<String> = function
            .params
            .iter()
            .map(|p| if p.optional { format!("{}?", p.name) } else { p.name.to_owned() })
            .collect();
        let owner = if function.name.is_empty() { String::new() } else { format!(".{}", function.name) };
        (format!("{}{owner}({})", module.name, params.join(", ")), function.doc.to_owned())
    });
    functions.collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace("rivet.", "")
}
