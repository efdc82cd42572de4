//! From a definition to a plan: one event and its inputs fill in every `${…}`, and every matrix becomes its legs.
//!
//! All of it is pure: the same pipeline, event and inputs give the same plan, byte for byte, so that its digest can be what
//! an approval is bound to.

use crate::expand::{Axes, RunValues, Scope, Secrets, Unknown, run_line, string};
use crate::inputs::text;
use crate::matrix::{self, Leg};
use crate::plan::{Action, Label, Matrix, MergeCommit, Pipeline, Plan, PlannedStage, Stage};
use crate::problem::{Location, Problem};
use crate::trigger::EventFacts;
use crate::validate::values::is_image;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Stages a plan may have.
pub const MOST_STAGES: usize = 512;

/// The plan of `pipeline` for one event and its typed inputs (see [`crate::inputs::parse`]), or all that is wrong.
pub fn instantiate(pipeline: &Pipeline, event: &EventFacts, inputs: Map<String, Value>) -> Result<Plan, Vec<Problem>> {
    let none = Leg::new();
    let scope = Scope::new(event, Some(&pipeline.inputs), &inputs, Axes::Leg(&none));
    let mut problems = Vec::new();
    let mut stages = Vec::new();
    for stage in &pipeline.stages {
        match plan_stage(pipeline, stage, &scope) {
            Ok(planned) => stages.extend(planned),
            Err(found) => problems.extend(found),
        }
    }
    let top = Location::line(&pipeline.file, 1);
    let concurrency = pipeline.concurrency.clone().map(|mut concurrency| {
        let mut filler = Filler { scope: &scope, at: Some(top.clone()), problems: &mut problems };
        filler.shown("concurrency.group", &mut concurrency.group);
        filler.one_line("concurrency.group", &concurrency.group);
        concurrency
    });
    if stages.len() > MOST_STAGES {
        let text = format!("pipeline '{}' makes {} stages; the limit is {MOST_STAGES}.", pipeline.stem, stages.len());
        problems.push(Problem::error("plan.too_many_stages", text).at(top));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let secret = pipeline.inputs.iter().filter(|(_, spec)| spec.secret);
    let secret_inputs = secret.map(|(name, _)| name.clone()).collect();
    Ok(Plan {
        pipeline: pipeline.stem.clone(),
        file: pipeline.file.clone(),
        name: pipeline.name.clone(),
        inputs,
        secret_inputs,
        merge: merge_commit(event),
        concurrency,
        timeout: pipeline.timeout,
        stages,
    })
}

fn merge_commit(event: &EventFacts) -> Option<MergeCommit> {
    let pull = event.pull_request.as_ref()?;
    let merge = pull.merge_sha.clone()?;
    Some(MergeCommit { head: pull.head_sha.clone(), base: pull.base_sha.clone(), merge })
}

/// Every `${…}` of the definition that names what does not exist, whatever the event and its inputs will be.
pub fn unknown_names(pipeline: &Pipeline, event: &EventFacts) -> Vec<Problem> {
    let inputs = Map::new();
    let mut problems = Vec::new();
    for stage in &pipeline.stages {
        let axes = stage.matrix.as_ref().map(matrix::axis_names).unwrap_or_default();
        let scope = Scope::new(event, Some(&pipeline.inputs), &inputs, Axes::Later(&axes));
        Filler { scope: &scope, at: stage.at.clone(), problems: &mut problems }.stage(&mut unfilled(pipeline, stage));
    }
    let scope = Scope::new(event, Some(&pipeline.inputs), &inputs, Axes::Later(&[]));
    if let Some(mut concurrency) = pipeline.concurrency.clone() {
        let at = Some(Location::line(&pipeline.file, 1));
        Filler { scope: &scope, at, problems: &mut problems }.shown("concurrency.group", &mut concurrency.group);
    }
    problems
}

/// The legs of a stage whose axes were functions, now that these have given their values; none where an axis is empty.
/// `inputs` are the plan's.
pub fn expand_dynamic(
    planned: &PlannedStage,
    axes: BTreeMap<String, Vec<Value>>,
    event: &EventFacts,
    inputs: &Map<String, Value>,
) -> Result<Vec<PlannedStage>, Vec<Problem>> {
    let Some(matrix) = &planned.dynamic else { return Ok(vec![planned.clone()]) };
    let mut all = axes;
    for (name, axis) in &matrix.axes {
        match axis {
            crate::plan::Axis::Values { values } => {
                all.insert(name.clone(), values.clone());
            }
            crate::plan::Axis::Function if all.contains_key(name) => {}
            crate::plan::Axis::Function => {
                let text = format!("axis '{name}' of stage '{}' has no values.", planned.base);
                return Err(vec![Problem::error("plan.matrix", text).at(planned.stage.at.clone())]);
            }
        }
    }
    let none = Leg::new();
    // The names were checked when the plan was made; the specifications of the inputs are not here any more.
    let scope = Scope::new(event, None, inputs, Axes::Leg(&none));
    let legs = matrix::legs(&planned.base, &all, matrix).map_err(|text| wrong_matrix(&planned.stage, text))?;
    collect(legs.iter().map(|leg| fill(planned, leg, &scope)))
}

/// Everything, or every problem.
fn collect<T>(results: impl Iterator<Item = Result<T, Vec<Problem>>>) -> Result<Vec<T>, Vec<Problem>> {
    let mut done = Vec::new();
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(found) => problems.extend(found),
        }
    }
    // Every leg of a stage says the same of the same string.
    problems.dedup();
    if problems.is_empty() { Ok(done) } else { Err(problems) }
}

fn plan_stage(pipeline: &Pipeline, stage: &Stage, scope: &Scope<'_>) -> Result<Vec<PlannedStage>, Vec<Problem>> {
    let raw = unfilled(pipeline, stage);
    let Some(matrix) = &stage.matrix else { return fill(&raw, &Leg::new(), scope).map(|planned| vec![planned]) };
    match matrix::fixed_axes(matrix) {
        Some(axes) => {
            let legs = matrix::legs(&stage.name, &axes, matrix).map_err(|text| wrong_matrix(stage, text))?;
            if legs.is_empty() {
                return Err(wrong_matrix(stage, format!("the matrix of stage '{}' has no legs.", stage.name)));
            }
            collect(legs.iter().map(|leg| fill(&raw, leg, scope)))
        }
        None => later(raw, matrix, scope),
    }
}

fn wrong_matrix(stage: &Stage, text: String) -> Vec<Problem> {
    let code = if text.contains("the limit is") { "plan.too_many_stages" } else { "plan.matrix" };
    vec![Problem::error(code, text).at(stage.at.clone())]
}

/// The stage with what the pipeline gives all of them, every `${…}` still in place.
fn unfilled(pipeline: &Pipeline, stage: &Stage) -> PlannedStage {
    let mut labels: Vec<Label> = pipeline.runner.iter().chain(&pipeline.tags).chain(&stage.runner).cloned().collect();
    labels.sort();
    labels.dedup();
    let mut own = stage.clone();
    own.matrix = None;
    own.env = pipeline.env.clone();
    own.env.extend(stage.env.clone());
    PlannedStage {
        name: stage.name.clone(),
        base: stage.name.clone(),
        matrix: Map::new(),
        dynamic: None,
        max_parallel: stage.matrix.as_ref().and_then(|m| m.max_parallel),
        fail_fast: stage.matrix.as_ref().is_some_and(|m| m.fail_fast),
        labels,
        stage: own,
        run_values: BTreeMap::new(),
    }
}

/// A stage whose legs are not known yet: it keeps its `${…}`, but their names are checked now.
fn later(mut raw: PlannedStage, matrix: &Matrix, scope: &Scope<'_>) -> Result<Vec<PlannedStage>, Vec<Problem>> {
    let names = matrix::axis_names(matrix);
    let mut problems = Vec::new();
    let scope = scope.with_axes(Axes::Later(&names));
    let mut trial = raw.clone();
    let mut filler = Filler { scope: &scope, at: raw.stage.at.clone(), problems: &mut problems };
    filler.stage(&mut trial);
    if !problems.is_empty() {
        return Err(problems);
    }
    raw.dynamic = Some(matrix.clone());
    Ok(vec![raw])
}

/// One leg (or the stage itself, where there is no matrix) with everything filled in.
fn fill(raw: &PlannedStage, leg: &Leg, scope: &Scope<'_>) -> Result<PlannedStage, Vec<Problem>> {
    let mut planned = raw.clone();
    planned.dynamic = None;
    planned.matrix = leg.clone();
    planned.name = matrix::leg_name(&raw.base, leg);
    let mut problems = Vec::new();
    let scope = scope.with_axes(Axes::Leg(leg));
    let mut filler = Filler { scope: &scope, at: raw.stage.at.clone(), problems: &mut problems };
    filler.stage(&mut planned);
    if filler.problems.is_empty() {
        filler.check(&planned);
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

/// Fills in strings where they stand and keeps what is wrong with them.
struct Filler<'a> {
    scope: &'a Scope<'a>,
    at: Option<Location>,
    problems: &'a mut Vec<Problem>,
}

impl Filler<'_> {
    fn stage(&mut self, planned: &mut PlannedStage) {
        let stage = &mut planned.stage;
        for label in planned.labels.iter_mut().chain(&mut stage.runner) {
            self.shown("runner", &mut label.key);
            self.shown("runner", &mut label.value);
        }
        planned.labels.sort();
        planned.labels.dedup();
        if let Some(image) = &mut stage.container {
            self.shown("container", image);
        }
        if let Some(environment) = &mut stage.environment {
            self.shown("environment", environment);
        }
        self.env("env", &mut stage.env);
        for (name, service) in &mut stage.services {
            self.shown(&format!("services.{name}.image"), &mut service.image);
            self.env(&format!("services.{name}.env"), &mut service.env);
        }
        let mut values = RunValues::default();
        self.action(&mut stage.action, &mut values);
        if let Some(rollback) = &mut stage.rollback {
            self.action(&mut rollback.action, &mut values);
        }
        planned.run_values = values.into_values();
    }

    fn action(&mut self, action: &mut Action, values: &mut RunValues) {
        match action {
            Action::Script => {}
            Action::Run { run } => {
                for line in run {
                    match run_line(self.scope, line, values) {
                        Ok(filled) => *line = filled,
                        Err(unknown) => self.report("run", unknown),
                    }
                }
            }
            Action::Pipeline { inputs, .. } => inputs.values_mut().for_each(|value| self.json(value)),
        }
    }

    fn env(&mut self, key: &str, env: &mut BTreeMap<String, String>) {
        for (name, value) in env {
            self.fill(&format!("{key}.{name}"), value, Secrets::Allowed);
        }
    }

    fn json(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.fill("inputs", text, Secrets::Allowed),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(map) => map.values_mut().for_each(|item| self.json(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A string people see.
    fn shown(&mut self, key: &str, text: &mut String) {
        self.fill(key, text, Secrets::Refused);
    }

    fn fill(&mut self, key: &str, text: &mut String, secrets: Secrets) {
        match string(self.scope, text, secrets) {
            Ok(filled) => *text = filled,
            Err(unknown) => self.report(key, unknown),
        }
    }

    fn report(&mut self, key: &str, unknown: Vec<Unknown>) {
        for Unknown { message, hint } in unknown {
            let mut problem =
                Problem::error("plan.unknown_name", format!("{message}, in '{key}'.")).at(self.at.clone());
            problem.hint = hint;
            // Labels stand in the stage and in the plan: one report is enough.
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    /// What was filled in came from outside, so what the definition's check found good has to be looked at again.
    fn check(&mut self, planned: &PlannedStage) {
        let name = &planned.name;
        let services = planned.stage.services.values().map(|service| &service.image);
        for image in planned.stage.container.iter().chain(services).filter(|image| !is_image(image)) {
            self.wrong("plan.image", format!("'{}' is not an image reference, in stage '{name}'.", cut(image)));
        }
        for label in planned.labels.iter().filter(|label| !is_label(label)) {
            let text = format!("'{}' is not a label, in stage '{name}'.", cut(&label.to_string()));
            self.wrong("plan.label", text);
        }
        if let Some(environment) = &planned.stage.environment {
            self.one_line("environment", environment);
        }
    }

    fn one_line(&mut self, key: &str, text: &str) {
        if text.trim().is_empty() || text.chars().count() > 255 || text.chars().any(char::is_control) {
            let text = format!("'{key}' must be one line of 1 to 255 characters, got '{}'.", cut(text));
            self.wrong("plan.value", text);
        }
    }

    fn wrong(&mut self, code: &str, text: String) {
        self.problems.push(Problem::error(code, text).at(self.at.clone()));
    }
}

fn is_label(label: &Label) -> bool {
    let word = |text: &str| {
        (1..=128).contains(&text.chars().count())
            && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',')
    };
    word(&label.key) && !label.key.contains('=') && word(&label.value)
}

/// What came from outside, short and harmless enough for a sentence.
fn cut(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The values a run must hide: the text of every secret input.
pub fn secret_texts(plan: &Plan) -> Vec<String> {
    let values = plan.secret_inputs.iter().filter_map(|name| plan.inputs.get(name));
    values.map(text).filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
#[path = "instantiate_tests.rs"]
mod tests;
