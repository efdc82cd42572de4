//! The pipeline as a whole.

use super::checker::{Checker, Fields};
use super::{Dialect, Language, PLAN_LIMIT, PROBLEMS_LIMIT, STAGES_LIMIT, graph, inputs, stage, triggers};
use crate::plan::{Concurrency, Label, Pipeline};
use crate::problem::Problem;
use crate::raw::{Node, Raw, quoted};

/// Seconds a whole run may take: it may wait for people.
const RUN_SECONDS: u32 = 30 * 86_400;

pub(super) const LUA_KEYS: &[&str] =
    &["name", "description", "on", "concurrency", "inputs", "runner", "tags", "env", "timeout", "stages"];
const TOML_KEYS: &[&str] =
    &["version", "name", "description", "on", "concurrency", "inputs", "runner", "tags", "env", "timeout", "steps"];

/// Validates a definition. There is a pipeline only where there is no error.
pub(crate) fn pipeline(
    root: &Node,
    dialect: Dialect,
    language: &dyn Language,
    file: &str,
) -> (Option<Pipeline>, Vec<Problem>) {
    let mut checker = Checker { problems: Vec::new(), dialect, language };
    let pipeline = checker.pipeline(root, file);
    let mut problems = checker.problems;
    problems.sort_by(|a, b| (&a.at, &a.code, &a.message).cmp(&(&b.at, &b.code, &b.message)));
    // One mistake in a template is one mistake, however many stages are made with it.
    problems.dedup();
    if problems.len() > PROBLEMS_LIMIT {
        let more = problems.len() - PROBLEMS_LIMIT;
        problems.truncate(PROBLEMS_LIMIT);
        let text = format!("{more} more problems are not shown.");
        problems.push(Problem::error("plan.more", text).at(root.at.clone()));
    }
    let failed = problems.iter().any(Problem::is_error);
    (pipeline.filter(|_| !failed), problems)
}

/// `.rivet/ci.lua` is known as `ci`.
fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

impl Checker<'_> {
    fn pipeline(&mut self, root: &Node, file: &str) -> Option<Pipeline> {
        let keys = match self.dialect {
            Dialect::Lua => LUA_KEYS,
            Dialect::Toml => TOML_KEYS,
        };
        let fields = self.fields(root, "the pipeline", "the pipeline", keys)?;
        self.version(&fields);
        let stem = stem(file);
        let mut pipeline = Pipeline {
            name: self.text(&fields, "name").filter(|name| !name.is_empty()).unwrap_or_else(|| stem.clone()),
            stem,
            file: file.to_owned(),
            description: self.text(&fields, "description"),
            on: fields.get("on").map(|node| triggers::triggers(self, node)).unwrap_or_default(),
            concurrency: self.concurrency(&fields),
            inputs: fields.get("inputs").map(|node| inputs::inputs(self, node)).unwrap_or_default(),
            runner: self.labels(&fields, "runner"),
            tags: self.labels(&fields, "tags"),
            env: self.env(&fields, "env"),
            timeout: self.seconds(&fields, "timeout", RUN_SECONDS),
            stages: Vec::new(),
        };
        inputs::check_triggers(self, &fields, &pipeline.on, &pipeline.inputs);
        let written = self.stages(&fields, &pipeline.stem);
        pipeline.stages = graph::connect(self, &pipeline, written);
        self.check_size(&fields, &pipeline);
        Some(pipeline)
    }

    fn version(&mut self, fields: &Fields<'_>) {
        if let Some(node) = fields.get("version")
            && !matches!(node.value, Raw::Number(1.0))
        {
            self.mismatch(node, "version", "1");
        }
    }

    fn stages(&mut self, fields: &Fields<'_>, stem: &str) -> Vec<stage::Written> {
        let key = self.dialect.stages();
        let Some(node) = fields.get(key) else {
            self.report(fields.at, "plan.missing", format!("the pipeline has no {key}."));
            return Vec::new();
        };
        let nodes: Vec<&Node> = match (self.dialect, &node.value) {
            (Dialect::Lua, Raw::Table(table)) if table.entries.is_empty() => table.items.iter().collect(),
            (Dialect::Toml, Raw::Table(table)) if table.items.is_empty() => {
                table.entries.iter().map(|entry| &entry.value).collect()
            }
            (Dialect::Lua, _) => {
                self.mismatch(node, key, "a list of stages");
                return Vec::new();
            }
            (Dialect::Toml, _) => {
                self.mismatch(node, key, "a table of steps");
                return Vec::new();
            }
        };
        if nodes.is_empty() {
            self.report(&node.at, "plan.missing", format!("the pipeline has no {key}."));
        }
        if nodes.len() > STAGES_LIMIT {
            // Each is at least one, so the rest need not be read to know.
            let text = format!("pipeline '{stem}' makes {} stages; the limit is {STAGES_LIMIT}.", nodes.len());
            self.report(&node.at, "plan.too_many_stages", text);
            return Vec::new();
        }
        let names = self.stage_names(node);
        nodes
            .into_iter()
            .zip(names)
            .enumerate()
            .filter_map(|(i, (node, name))| stage::stage(self, node, i, name))
            .collect()
    }

    /// What each stage is called where its key names it.
    fn stage_names(&self, node: &Node) -> Vec<Option<(String, crate::problem::Location)>> {
        let Some(table) = node.table() else { return Vec::new() };
        match self.dialect {
            Dialect::Lua => table.items.iter().map(|_| None).collect(),
            Dialect::Toml => table.entries.iter().map(|e| Some((e.key.clone(), e.at.clone()))).collect(),
        }
    }

    fn concurrency(&mut self, fields: &Fields<'_>) -> Option<Concurrency> {
        let node = fields.get("concurrency")?;
        let inner = self.nested(node, "concurrency", &["group", "cancel_in_progress"])?;
        let cancel_in_progress = self.flag(&inner, "cancel_in_progress").unwrap_or(false);
        Some(Concurrency { group: self.required_text(&inner, "group")?, cancel_in_progress })
    }

    /// Labels, each `{ key = …, value = … }`.
    pub(super) fn labels(&mut self, fields: &Fields<'_>, key: &str) -> Vec<Label> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let name = fields.name(key);
        let Some(items) = self.list(node, &name, "a list of labels, each { key = …, value = … }") else {
            return Vec::new();
        };
        items.iter().enumerate().filter_map(|(i, item)| self.label(item, &format!("{name}[{}]", i + 1))).collect()
    }

    fn label(&mut self, node: &Node, name: &str) -> Option<Label> {
        let fields = self.nested(node, name, &["key", "value"])?;
        let (key, value) = (self.required_text(&fields, "key"), self.required_text(&fields, "value"));
        let (key, value) = (key?, value?);
        let word =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b)) && text.len() <= 128;
        if !word(&key) {
            self.report(
                node_at(&fields, "key"),
                "plan.name",
                format!("label key {} must be letters, digits, '_', '.', '/' or '-'.", quoted(&key)),
            );
        }
        if !value.contains("${") && !word(&value) {
            self.report(
                node_at(&fields, "value"),
                "plan.name",
                format!("label value {} must be letters, digits, '_', '.', '/' or '-'.", quoted(&value)),
            );
        }
        Some(Label { key, value })
    }

    fn check_size(&mut self, fields: &Fields<'_>, pipeline: &Pipeline) {
        let bytes = serde_json::to_vec(pipeline).map_or(0, |json| json.len());
        if bytes > PLAN_LIMIT {
            let text = format!("pipeline '{}' is {bytes} bytes as a plan; the limit is {PLAN_LIMIT}.", pipeline.stem);
            self.report(fields.at, "plan.too_large", text);
        }
    }
}

fn node_at<'n>(fields: &Fields<'n>, key: &str) -> &'n crate::problem::Location {
    fields.get(key).map_or(fields.at, |node| &node.at)
}
