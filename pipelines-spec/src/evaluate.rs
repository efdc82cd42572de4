//! The one door to the language: a request and an answer, both plain JSON, so that evaluation can happen in a confined
//! process of its own (`rivet evaluate-definition` reads one [`Request`] on stdin and writes one [`Response`] to stdout).

use crate::plan::Pipeline;
use crate::problem::Problem;
use crate::protocol::Sources;
use crate::trigger::EventFacts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
