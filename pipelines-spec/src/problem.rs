//! What is wrong with a definition, as data: every problem at once, each with its place, its code and what to do next.

use serde::{Deserialize, Serialize};

/// One thing wrong with a definition (or worth a warning), ready for a terminal, an annotation or JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The catalogue's code, such as `plan.unknown_key`.
    pub code: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where it is; `None` where the whole repository is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
    /// What to do next, such as "did you mean 'timeout'?".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Whether a problem stops a pipeline from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The pipeline cannot start.
    #[default]
    Error,
    /// The pipeline starts, but somebody should look.
    Warning,
}

/// A place in a file of the repository. Lines and columns count from 1; a column of 0 means the whole line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// Path from the repository's root, such as `.rivet/ci.lua`.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1; 0 where only the line is known.
    #[serde(default)]
    pub column: u32,
}

impl Location {
    /// A place that is known to the line.
    pub fn line(file: impl Into<String>, line: u32) -> Self {
        Self { file: file.into(), line, column: 0 }
    }
}

impl Problem {
    /// An error with `code` that says `message`.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), severity: Severity::Error, message: message.into(), at: None, hint: None }
    }

    /// The same problem as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same problem at `at`.
    #[must_use]
    pub fn at(mut self, at: impl Into<Option<Location>>) -> Self {
        self.at = at.into();
        self
    }

    /// The same problem with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it stops the pipeline.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `path:line:col: code: message (hint)`, as in the catalogue.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{}:{}:", at.file, at.line)?;
            if at.column > 0 {
                write!(f, "{}:", at.column)?;
            }
            write!(f, " ")?;
        }
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " {hint}")?;
        }
        Ok(())
    }
}
