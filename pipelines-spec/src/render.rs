//! Problems as people and programs read them: a terminal with the line and a caret, JSON, GitHub's workflow commands, SARIF.

use crate::problem::{Location, Problem, Severity};
use crate::protocol::Sources;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value, json};
use std::ops::Range;

/// How problems are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Format {
    /// For a terminal: the line, a caret, the code and what to do.
    #[default]
    Human,
    /// One JSON object with `schema_version` and `problems`.
    Json,
    /// Workflow commands (`::error file=…`), which GitHub Actions turns into annotations.
    Github,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// The problems in one text. `sources` give the lines that are shown; `colour` counts for [`Format::Human`] alone.
pub fn render(problems: &[Problem], sources: &Sources, format: Format, colour: bool) -> String {
    match format {
        Format::Human => human(problems, sources, colour),
        Format::Json => {
            let text = json!({ "schema_version": 1, "problems": problems });
            format!("{text:#}\n")
        }
        Format::Github => problems.iter().map(|p| format!("{}\n", github(p))).collect(),
        Format::Sarif => format!("{:#}\n", sarif(problems)),
    }
}

fn human(problems: &[Problem], sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    problems.iter().map(|problem| format!("{}\n\n", one(problem, sources, &renderer))).collect()
}

fn one(problem: &Problem, sources: &Sources, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // What a repository's files say is shown, never obeyed: escapes for the terminal are made visible.
    let title = level.primary_title(normalize_untrusted_str(&problem.message)).id(problem.code.as_str());
    let mut elements = Group::with_title(title);
    if let Some(at) = &problem.at {
        elements = match line_of(sources, at) {
            Some(line) => elements.element(snippet(at, line)),
            None => elements.element(origin(at)),
        };
    }
    if let Some(hint) = &problem.hint {
        elements = elements.element(Level::HELP.message(normalize_untrusted_str(hint)));
    }
    renderer.render(&[elements])
}

fn line_of<'a>(sources: &'a Sources, at: &Location) -> Option<&'a str> {
    let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
    sources.get(&at.file)?.lines().nth(line)
}

fn origin(at: &Location) -> Origin<'_> {
    let origin = Origin::path(at.file.as_str()).line(at.line as usize);
    if at.column > 0 { origin.char_column(at.column as usize) } else { origin }
}

fn snippet<'a>(at: &'a Location, line: &'a str) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(line)
        .line_start(at.line as usize)
        .path(at.file.as_str())
        .annotation(AnnotationKind::Primary.span(span(line, at.column)))
}

/// What the carets stand under: the word at the column, or the whole line where no column is known.
fn span(line: &str, column: u32) -> Range<usize> {
    let Some(before) = (column as usize).checked_sub(1) else {
        let start = line.len() - line.trim_start().len();
        return start..line.trim_end().len().max(start);
    };
    let start = line.char_indices().nth(before).map_or(line.len(), |(at, _)| at);
    let rest = &line[start..];
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let length = match quote {
        Some(quote) => rest[1..].find(quote).map_or(1, |end| end + 2),
        None => rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()),
    };
    let least = rest.chars().next().map_or(0, char::len_utf8);
    start..start + length.max(least)
}

fn github(problem: &Problem) -> String {
    let command = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut properties = Vec::new();
    if let Some(at) = &problem.at {
        properties.push(format!("file={}", property(&at.file)));
        properties.push(format!("line={}", at.line));
        if at.column > 0 {
            properties.push(format!("col={}", at.column));
        }
    }
    properties.push(format!("title={}", property(&problem.code)));
    let message = escape(&whole_message(problem));
    format!("::{command} {}::{message}", properties.join(","))
}

fn whole_message(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{} {hint}", problem.message),
        None => problem.message.clone(),
    }
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

fn sarif(problems: &[Problem]) -> Value {
    let mut rules: Vec<&str> = problems.iter().map(|p| p.code.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let rules: Vec<Value> = rules.into_iter().map(|id| json!({ "id": id })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "rivet", "version": env!("CARGO_PKG_VERSION"), "rules": rules,
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
            } },
            "columnKind": "unicodeCodePoints",
            "results": problems.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(problem: &Problem) -> Value {
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let location = |at: &Location| {
        let mut region = json!({ "startLine": at.line.max(1) });
        if at.column > 0 {
            region["startColumn"] = at.column.into();
        }
        json!({ "physicalLocation": { "artifactLocation": { "uri": uri(&at.file) }, "region": region } })
    };
    json!({
        "ruleId": problem.code,
        "level": level,
        "message": { "text": whole_message(problem) },
        "locations": problem.at.iter().map(location).collect::<Vec<_>>(),
    })
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn sources() -> Sources {
        let text =
            "return pipeline.define({\n    stages = {\n        { name = \"tést\", timout = \"5m\" },\n    },\n})\n";
        Sources::from([(".rivet/ci.lua".to_owned(), text.to_owned())])
    }

    fn typo() -> Problem {
        Problem::error("plan.unknown_key", "unknown key 'timout' in stage 'tést'.")
            .at(Location { file: ".rivet/ci.lua".into(), line: 3, column: 26 })
            .hint("Did you mean 'timeout'?")
    }

    #[test]
    fn a_terminal_gets_the_line_a_caret_and_what_to_do() {
        let warning = Problem::error("plan.unused", "nothing uses it").warning().at(Location::line(".rivet/ci.lua", 2));
        let elsewhere = Problem::error("config.not_a_file", "x is a link").at(Location::line(".rivet/x.lua", 1));
        let nowhere = Problem::error("config.too_large", "too much");
        assert_snapshot!(render(&[typo(), warning, elsewhere, nowhere], &sources(), Format::Human, false), @r#"
        error[plan.unknown_key]: unknown key 'timout' in stage 'tést'.
         --> .rivet/ci.lua:3:26
          |
        3 |         { name = "tést", timout = "5m" },
          |                          ^^^^^^
          |
          = help: Did you mean 'timeout'?

        warning[plan.unused]: nothing uses it
         --> .rivet/ci.lua:2:5
          |
        2 |     stages = {
          |     ^^^^^^^^^^

        error[config.not_a_file]: x is a link
        --> .rivet/x.lua:1

        error[config.too_large]: too much
        "#);
    }

    #[test]
    fn colours_only_where_they_are_wanted_and_never_the_files_own() {
        let mut problem = typo();
        problem.message = "unknown \u{1b}[31mkey".to_owned();
        let plain = render(std::slice::from_ref(&problem), &sources(), Format::Human, false);
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(render(&[problem], &sources(), Format::Human, true).contains('\u{1b}'));
    }

    #[test]
    fn places_that_are_not_there_do_no_harm() {
        for (line, column) in [(0, 0), (3, 400), (99, 1), (2, 0), (3, 20)] {
            let at = Location { file: ".rivet/ci.lua".into(), line, column };
            for format in [Format::Human, Format::Json, Format::Github, Format::Sarif] {
                assert!(!render(&[typo().at(at.clone())], &sources(), format, true).is_empty());
            }
        }
        let empty = Sources::from([("x".to_owned(), "\n\n".to_owned())]);
        let at = Location { file: "x".into(), line: 1, column: 1 };
        assert!(render(&[typo().at(at)], &empty, Format::Human, false).contains("timout"));
    }

    #[test]
    fn github_gets_one_command_a_problem() {
        let mut problem = typo();
        problem.message.push_str("\n100%");
        assert_snapshot!(render(&[problem], &sources(), Format::Github, false), @"::error file=.rivet/ci.lua,line=3,col=26,title=plan.unknown_key::unknown key 'timout' in stage 'tést'.%0A100%25 Did you mean 'timeout'?");
    }

    #[test]
    fn programs_get_json_and_sarif() {
        let json: Value = serde_json::from_str(&render(&[typo()], &sources(), Format::Json, false)).unwrap();
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["problems"][0]["at"]["column"], 26);
        let sarif: Value = serde_json::from_str(&render(&[typo()], &sources(), Format::Sarif, false)).unwrap();
        assert_eq!(sarif["version"], "2.1.0");
        assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"][0]["id"], "plan.unknown_key");
        insta::assert_json_snapshot!(sarif["runs"][0]["results"][0], @r#"
        {
          "level": "error",
          "locations": [
            {
              "physicalLocation": {
                "artifactLocation": {
                  "uri": ".rivet/ci.lua"
                },
                "region": {
                  "startColumn": 26,
                  "startLine": 3
                }
              }
            }
          ],
          "message": {
            "text": "unknown key 'timout' in stage 'tést'. Did you mean 'timeout'?"
          },
          "ruleId": "plan.unknown_key"
        }
        "#);
    }
}
