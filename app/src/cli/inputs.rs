//! Inputs given on the command line, and asking a person for those that are missing.

use super::{Exit, Failure, output};
use dialoguer::theme::ColorfulTheme;
use dialoguer::{Confirm, Input, MultiSelect, Select};
use pipelines_spec::plan::{InputSpec, InputType};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read as _;

/// Inputs as arguments.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Given {
    /// An input; again for each item of an array
    #[arg(short = 'f', long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// An input whose value is a file's content; @- reads standard input
    #[arg(short = 'F', long = "file-field", value_name = "NAME=@FILE")]
    files: Vec<String>,
}

impl Given {
    /// The values by name. A name given several times is a list. The pipeline's types are applied by who plans it.
    pub fn values(&self) -> Result<Map<String, Value>, Failure> {
        let mut values: Map<String, Value> = Map::new();
        let texts = self.fields.iter().map(|field| split(field, "-f").map(|(n, v)| (n, v.to_owned())));
        let files = self.files.iter().map(|field| split(field, "-F").and_then(|(n, v)| Ok((n, read(n, v)?))));
        for pair in texts.chain(files) {
            let (name, text) = pair?;
            let value = Value::String(text);
            match values.get_mut(name) {
                None => drop(values.insert(name.to_owned(), value)),
                Some(Value::Array(items)) => items.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Ok(values)
    }
}

fn split<'a>(field: &'a str, flag: &str) -> Result<(&'a str, &'a str), Failure> {
    match field.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(Failure::usage(format!("{flag} {field}: write NAME=VALUE"))),
    }
}

fn read(name: &str, value: &str) -> Result<String, Failure> {
    let Some(path) = value.strip_prefix('@') else {
        return Err(Failure::usage(format!(
            "-F {name}={value}: write -F {name}=@FILE, or -f {name}={value} for the text itself"
        )));
    };
    let text = if path == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|e| Failure::usage(format!("-F {name}: {path} cannot be read: {e}")))
}

/// Which pipelines there are, when the named one is not among them.
pub fn unknown_pipeline(name: &str, all: &[String], place: &str) -> Failure {
    let hint = match pipelines_spec::suggest::nearest(name, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'? "),
        None => String::new(),
    };
    let have = if all.is_empty() {
        "it has none; `rivet init` makes one".to_owned()
    } else {
        format!("it has {}", all.join(", "))
    };
    let message = format!("{place} has no pipeline '{name}'\n{hint}{have}");
    Failure::new(Exit::NotFound, output_lines(&message))
}

fn output_lines(message: &str) -> String {
    message.lines().map(output::clean).collect::<Vec<_>>().join("\n")
}

/// Asks for each required input without a value. Only called where somebody can answer.
pub fn ask_for_missing(specs: &BTreeMap<String, InputSpec>, values: &mut Map<String, Value>) -> Result<(), Failure> {
    for (name, spec) in specs {
        let needed = spec.required && spec.default.is_none() && !values.contains_key(name);
        if needed {
            let value = ask(name, spec).map_err(|e| Failure::new(Exit::Interrupted, format!("no answer: {e}")))?;
            values.insert(name.clone(), value);
        }
    }
    Ok(())
}

fn ask(name: &str, spec: &InputSpec) -> dialoguer::Result<Value> {
    let theme = ColorfulTheme::default();
    let prompt = match &spec.description {
        Some(description) => format!("{} ({})", output::clean(name), output::clean(description)),
        None => output::clean(name),
    };
    let options: Vec<String> = spec.options.iter().map(|o| output::clean(&text_of(o))).collect();
    match spec.kind {
        InputType::Bool => Ok(Value::Bool(Confirm::with_theme(&theme).with_prompt(prompt).interact()?)),
        InputType::Array if !options.is_empty() => {
            let chosen = MultiSelect::with_theme(&theme).with_prompt(prompt).items(&options).interact()?;
            Ok(Value::Array(chosen.into_iter().filter_map(|i| spec.options.get(i).cloned()).collect()))
        }
        InputType::String | InputType::Number if !options.is_empty() => {
            let chosen = Select::with_theme(&theme).with_prompt(prompt).items(&options).default(0).interact()?;
            Ok(spec.options.get(chosen).cloned().unwrap_or_default())
        }
        InputType::Array => {
            let line: String =
                Input::with_theme(&theme).with_prompt(format!("{prompt}, separated by commas")).interact_text()?;
            let items = line.split(',').map(str::trim).filter(|i| !i.is_empty());
            Ok(Value::Array(items.map(|i| Value::String(i.to_owned())).collect()))
        }
        InputType::Number => {
            let number: f64 = Input::with_theme(&theme).with_prompt(prompt).interact_text()?;
            Ok(whole(number))
        }
        InputType::String => Ok(Value::String(Input::with_theme(&theme).with_prompt(prompt).interact_text()?)),
    }
}

/// `4` rather than `4.0`.
fn whole(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        return Value::from(number as i64);
    }
    Value::from(number)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_become_values() {
        let given = Given { fields: ["a=1", "b=x=y", "a=2", "c="].map(str::to_owned).to_vec(), files: vec![] };
        assert_eq!(json!(given.values().expect("values")), json!({ "a": ["1", "2"], "b": "x=y", "c": "" }));
    }

    #[test]
    fn mistakes_say_how_it_is_written() {
        let one = |fields: &[&str], files: &[&str]| {
            let own = |all: &[&str]| all.iter().map(ToString::to_string).collect();
            let given = Given { fields: own(fields), files: own(files) };
            given.values().expect_err("a mistake").message
        };
        assert_eq!(one(&["a"], &[]), "-f a: write NAME=VALUE");
        assert_eq!(one(&[], &["a=b"]), "-F a=b: write -F a=@FILE, or -f a=b for the text itself");
    }

    #[test]
    fn an_unknown_pipeline_names_the_known_ones() {
        let all = ["ci".to_owned(), "deploy".to_owned()];
        let failure = unknown_pipeline("depoly", &all, "acme/web");
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(failure.message, "acme/web has no pipeline 'depoly'\ndid you mean 'deploy'? it has ci, deploy");
    }
}
