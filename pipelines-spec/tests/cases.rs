//! Every file of `tests/cases` is a definition; beside it stands what comes of it: the pipeline, or what is wrong.
//!
//! `UPDATE_EXPECTED=1 cargo test -p pipelines-spec --test cases` writes the expectations anew, to be read before they are
//! committed. A case may hold further files, each after a line `---- .rivet/lib/NAME.lua`.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use support::ask;

#[test]
fn every_case_comes_out_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "lua" || extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut different = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = path.with_extension("expected");
        let found = check(name, &std::fs::read_to_string(&path).unwrap());
        if update {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            write!(different, "\n===== {name} gives now\n{found}").unwrap();
        }
    }
    assert!(different.is_empty(), "{different}");
}

/// The pipeline as JSON, or every problem on a line of its own.
fn check(name: &str, text: &str) -> String {
    let language = name.rsplit_once('.').unwrap().1;
    let request = support::request(&format!(".rivet/ci.{language}"), text);
    let response = ask(&request);
    let mut found = String::new();
    for problem in &response.problems {
        assert!(problem.at.as_ref().is_some_and(|at| at.line > 0 && at.column > 0), "{name}: {problem} has no place");
        writeln!(found, "{problem}").unwrap();
    }
    if let Some(answer) = response.answer {
        let json = serde_json::to_value(answer).unwrap();
        writeln!(found, "{}", serde_json::to_string_pretty(&json["pipeline"]).unwrap()).unwrap();
    }
    found
}
