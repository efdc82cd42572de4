//! What ARCHITECTURE.md promises about the code and a search can see.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file below `folder`, with its path from the workspace root and its text without tests' modules.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut open = vec![root().join(folder)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder of the workspace").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test(&path) {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// Whether a file holds nothing but a module's tests.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// `file:line: text` of every line with `needle` outside comments, in files that `allowed` does not cover.
fn offenders(folder: &str, needle: &str, allowed: &[&str]) -> Vec<String> {
    let mut lines = vec![];
    for (name, text) in sources(folder) {
        if allowed.iter().any(|a| name.starts_with(a)) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && code.contains(needle) {
                lines.push(format!("{name}:{}: {}", index + 1, code.trim()));
            }
        }
    }
    lines
}

#[test]
fn only_the_store_has_sql() {
    for needle in ["sqlx::query", "query_as", "INSERT INTO", "DELETE FROM"] {
        assert_eq!(offenders("app/src", needle, &["app/src/store/"]), Vec::<String>::new());
    }
}

#[test]
fn only_the_forge_names_octocrab() {
    assert_eq!(offenders("app/src", "octocrab", &["app/src/forge/"]), Vec::<String>::new());
}

#[test]
fn lua_stays_in_the_language_and_the_runner() {
    assert_eq!(offenders("app/src", "mlua", &[]), Vec::<String>::new());
}

#[test]
fn the_contract_does_no_io() {
    for needle in ["std::fs", "std::net", "std::env", "tokio", "std::process"] {
        assert_eq!(offenders("pipelines-spec/src", needle, &[]), Vec::<String>::new());
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for folder in ["app/src", "runner/src", "pipelines-spec/src"] {
        for needle in ["todo!(", "unimplemented!(", "PLACEHOLDER", "FIXME"] {
            assert_eq!(offenders(folder, needle, &[]), Vec::<String>::new());
        }
        for (name, text) in sources(folder) {
            assert!(!text.contains("PLACEHOLDER"), "{name} is not built yet");
        }
    }
}

#[test]
fn modules_point_downward() {
    assert_eq!(offenders("runner/src", "rivet::", &[]), Vec::<String>::new());
    assert_eq!(offenders("pipelines-spec/src", "runner::", &[]), Vec::<String>::new());
}
