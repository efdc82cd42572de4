//! `rivet.toml`: read with the place of everything in it, strictly, all problems at once.

use super::table::{OTHER_KEYS, SETTINGS, Setting};
use pipelines_spec::suggest;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the file says.
#[derive(Debug, Default)]
pub struct FileSettings {
    /// The value of a setting and where it stands, by its key's dotted name (or that and `_file`).
    pub values: BTreeMap<String, (String, String)>,
    /// `[groups]`.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// Reads the text of the file called `name`. Every problem is one line that begins with the place.
pub fn read(name: &str, text: &str) -> (FileSettings, Vec<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { name, text, settings: FileSettings::default(), problems: vec![] };
    match DeTable::parse(text) {
        Ok(table) => reader.root(table.get_ref()),
        Err(error) => reader.syntax(&error),
    }
    (reader.settings, reader.problems)
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    settings: FileSettings,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> String {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    fn problem(&mut self, at: usize, message: &str) {
        let place = self.place(at);
        self.problems.push(format!("{place}: {message}"));
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let message = match error.message() {
            "duplicate key" => {
                let key = self.text.get(span.clone()).unwrap_or_default().trim();
                format!("duplicate key '{key}'")
            }
            deep if deep.contains("recursion depth") => "recursion limit: the file is nested too deeply".to_owned(),
            other => other.lines().collect::<Vec<_>>().join("; "),
        };
        self.problem(span.start, &message);
    }

    fn root(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let (section, at) = (key.get_ref().as_ref(), key.span().start);
            let Some(inner) = value.get_ref().as_table() else {
                let known: Vec<&str> = sections();
                let message = match SETTINGS.iter().find(|s| s.key.1 == section) {
                    Some(setting) => format!("'{section}' belongs in [{}]", setting.key.0),
                    None => format!("unknown key '{section}'{}", nearest(section, &known)),
                };
                self.problem(at, &message);
                continue;
            };
            match section {
                "groups" => self.groups(inner),
                _ if sections().contains(&section) => self.section(section, inner),
                _ => {
                    let message = format!("unknown section [{section}]{}", nearest(section, &sections()));
                    self.problem(at, &message);
                }
            }
        }
        self.forks_on_the_host(table);
    }

    fn groups(&mut self, table: &DeTable<'_>) {
        for (name, members) in table {
            let logins: Option<Vec<String>> = members
                .get_ref()
                .as_array()
                .map(|list| list.iter().filter_map(|member| member.get_ref().as_str().map(str::to_owned)).collect());
            let whole = members.get_ref().as_array().map(|list| list.iter().count());
            match logins.filter(|logins| Some(logins.len()) == whole) {
                Some(logins) => {
                    self.settings.groups.insert(name.get_ref().to_string(), logins);
                }
                None => {
                    let message = format!(
                        "groups.{} must be a list of logins and '@org/team's, got {}",
                        name.get_ref(),
                        describe(members.get_ref())
                    );
                    self.problem(members.span().start, &message);
                }
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let setting = SETTINGS.iter().find(|s| s.key.0 == section && s.key.1 == name);
            let twin =
                SETTINGS.iter().find(|s| s.secret && s.key.0 == section && name.strip_suffix("_file") == Some(s.key.1));
            match (setting, twin) {
                (Some(setting), _) => self.value(setting, &setting.dotted(), setting.shape, value),
                (None, Some(setting)) => {
                    self.value(setting, &format!("{}_file", setting.dotted()), "a string", value);
                }
                (None, None) if other_keys(section).contains(&name) => {}
                (None, None) => {
                    let message = format!("unknown key '{name}' in [{section}]{}", nearest(name, &keys(section)));
                    self.problem(key.span().start, &message);
                }
            }
        }
    }

    fn value(&mut self, setting: &Setting, dotted: &str, shape: &str, value: &Spanned<DeValue<'_>>) {
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) if setting.shape == "an integer" && number.radix() == 10 => {
                Some(number.as_str().to_owned())
            }
            _ => None,
        };
        let at = value.span().start;
        match text {
            Some(text) => {
                let place = self.place(at);
                self.settings.values.insert(dotted.to_owned(), (text, place));
            }
            None => self.problem(at, &format!("{dotted} must be {shape}, got {}", describe(value.get_ref()))),
        }
    }

    /// The host executor isolates nothing, so no setting may give it what strangers wrote.
    fn forks_on_the_host(&mut self, table: &DeTable<'_>) {
        let Some(runner) = table.get("runner").and_then(|r| r.get_ref().as_table()) else { return };
        let host = runner.get("executor").and_then(|e| e.get_ref().as_str()) == Some("host");
        if let Some(forks) = runner.get("accept_forks")
            && host
            && forks.get_ref().as_bool() == Some(true)
        {
            let at = forks.span().start;
            self.problem(at, "runner.accept_forks cannot be used with the host executor");
        }
    }
}

fn sections() -> Vec<&'static str> {
    let mut all: Vec<&str> = SETTINGS.iter().map(|s| s.key.0).chain(OTHER_KEYS.iter().map(|k| k.0)).collect();
    all.push("groups");
    all.sort_unstable();
    all.dedup();
    all
}

fn other_keys(section: &str) -> &'static [&'static str] {
    OTHER_KEYS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

fn keys(section: &str) -> Vec<&'static str> {
    let own = SETTINGS.iter().filter(|s| s.key.0 == section).map(|s| s.key.1);
    own.chain(other_keys(section).iter().copied()).collect()
}

fn nearest(name: &str, known: &[&str]) -> String {
    suggest::nearest(name, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean '{near}'?"))
}

/// `integer 80`, `a list`: never more than a few words of what was given, and nothing of a string, which may be a secret.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("integer {number}"),
        DeValue::Float(number) => format!("number {number}"),
        DeValue::Boolean(yes) => format!("boolean {yes}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
