//! How commands end.

use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or what was followed succeeded.
    Done = 0,
    /// Failed, or problems were found.
    Failed = 1,
    /// The command was not understood, or a setting is wrong.
    Usage = 2,
    /// What was followed was cancelled or superseded.
    Cancelled = 3,
    /// Not signed in, or not allowed.
    Forbidden = 4,
    /// It does not exist.
    NotFound = 5,
    /// The server cannot be reached.
    Unreachable = 6,
    /// A gate was rejected, or it expired.
    Rejected = 7,
    /// Not finished yet.
    Unfinished = 8,
    /// `--timeout` passed.
    TimedOut = 124,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should: what to say on stderr, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to say: one line for each thing that is wrong, without a full stop.
    pub message: String,
}

impl Failure {
    /// A failure with its own exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure with code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A mistake of the caller: code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// Says what went wrong, and answers the exit code.
pub(super) fn report(outcome: Result<Exit, Failure>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            for line in failure.message.lines() {
                eprintln!("rivet: {line}");
            }
            failure.exit.into()
        }
    }
}
