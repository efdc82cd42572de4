//! The one door to the language: a request and an answer, both plain JSON, so that evaluation can happen in a confined
//! process of its own (`rivet evaluate-definition` reads one [`Request`] on stdin and writes one [`Response`] to stdout).

use crate::lua::failure::complete_columns;
use crate::lua::sandbox::TIME_LIMIT;
use crate::lua::{self, Definition, Evaluation, LuaLanguage};
use crate::plan::{Condition, Pipeline};
use crate::problem::{Location, Problem};
use crate::protocol::Sources;
use crate::trigger::EventFacts;
use crate::validate::{self, Dialect};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// What is asked of the evaluator about one file of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// All definition files at the commit.
    pub sources: Sources,
    /// The file, a key of `sources`.
    pub file: String,
    /// What the file may read as `event`.
    pub event: EventFacts,
    /// The question.
    pub question: Question,
}

/// The question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// What does the file define?
    Pipeline,
    /// Does the stage's condition hold?
    Condition {
        /// The stage's name in the file.
        stage: String,
        /// What it may look at.
        context: Context,
    },
    /// What are the values of the axes that are functions?
    Axes {
        /// The stage's name in the file.
        stage: String,
        /// What they may look at.
        context: Context,
    },
    /// What do the file's `validate` functions say of these typed inputs?
    Validate {
        /// The typed inputs.
        inputs: Map<String, Value>,
    },
}

/// What conditions and axis functions may look at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Context {
    /// Typed inputs.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// As [`crate::protocol::Job::needs`].
    #[serde(default)]
    pub needs: Map<String, Value>,
    /// The leg's values.
    #[serde(default)]
    pub matrix: Map<String, Value>,
}

/// The answer. `problems` may hold warnings beside a value; errors mean there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// What was asked for.
    pub answer: Option<Answer>,
    /// What is wrong.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// The answer's value, of the question's kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The definition.
    Pipeline {
        /// It.
        pipeline: Box<Pipeline>,
    },
    /// Whether the condition holds.
    Condition {
        /// It.
        holds: bool,
    },
    /// Values of every function axis, by name.
    Axes {
        /// Them.
        axes: std::collections::BTreeMap<String, Vec<Value>>,
    },
    /// What is wrong with inputs, by input name; empty: nothing.
    Validate {
        /// Them.
        errors: std::collections::BTreeMap<String, String>,
    },
}

/// Answers a request. Pure: the same request always gets the same answer, unless its time or memory ran out.
pub fn evaluate(request: &Request) -> Response {
    evaluate_within(request, TIME_LIMIT)
}

/// [`evaluate`] with another limit on its time.
pub fn evaluate_within(request: &Request, limit: Duration) -> Response {
    let start = Instant::now();
    let mut problems = Vec::new();
    let answer = match Evaluation::new(start, limit).and_then(|evaluation| answer(request, &evaluation, &mut problems))
    {
        Ok(answer) => answer,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    for problem in problems.iter_mut().filter(|problem| problem.at.is_none()) {
        problem.at = Some(Location::line(&request.file, 1));
    }
    complete_columns(&mut problems, &request.sources);
    Response { answer, problems }
}

fn answer(request: &Request, evaluation: &Evaluation, problems: &mut Vec<Problem>) -> Result<Option<Answer>, Problem> {
    let Request { sources, file, event, question } = request;
    let definition = evaluation.load(sources, file, event)?;
    match question {
        Question::Pipeline => {
            let (pipeline, found) = pipeline(evaluation, &definition, file)?;
            problems.extend(found);
            Ok(pipeline.map(|pipeline| Answer::Pipeline { pipeline: Box::new(pipeline) }))
        }
        Question::Condition { stage, context } => {
            let expression = expression(evaluation, &definition, file, stage)?;
            let holds = lua::condition(evaluation, Some(&definition), stage, expression.as_deref(), event, context)?;
            Ok(Some(Answer::Condition { holds }))
        }
        Question::Axes { stage, context } => {
            Ok(Some(Answer::Axes { axes: lua::axes(evaluation, &definition, stage, event, context)? }))
        }
        Question::Validate { inputs } => {
            Ok(Some(Answer::Validate { errors: lua::validate(evaluation, &definition, event, inputs)? }))
        }
    }
}

fn pipeline(
    evaluation: &Evaluation,
    definition: &Definition,
    file: &str,
) -> Result<(Option<Pipeline>, Vec<Problem>), Problem> {
    Ok(validate::pipeline(&definition.node()?, Dialect::Lua, &LuaLanguage(evaluation), file))
}

/// The expression that is the stage's condition, where it is not a function.
fn expression(
    evaluation: &Evaluation,
    definition: &Definition,
    file: &str,
    stage: &str,
) -> Result<Option<String>, Problem> {
    let (pipeline, problems) = pipeline(evaluation, definition, file)?;
    let Some(pipeline) = pipeline else {
        let first = problems.into_iter().find(Problem::is_error);
        return Err(first.unwrap_or_else(|| Problem::error("plan.missing", "the file defines no pipeline.")));
    };
    let found = pipeline.stages.into_iter().find(|found| found.name == stage).and_then(|stage| stage.condition);
    Ok(found.and_then(|condition| match condition {
        Condition::Function => None,
        Condition::Expression { expression } => Some(expression),
    }))
}
