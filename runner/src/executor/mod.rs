//! Where commands run.

pub mod host;
mod output;
pub mod podman;

use crate::log::{Log, Tail};
use crate::stop::{Stop, StopReason};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Most bytes kept of each of a command's two streams.
pub const CAPTURE_BYTES: usize = 16 << 20;

/// One command.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment, beside what the executor gives every command.
    pub env: BTreeMap<String, String>,
    /// Its directory, from the workspace; `None`: the workspace.
    pub cwd: Option<String>,
    /// What it reads; `None`: nothing.
    pub stdin: Option<Vec<u8>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Whether its output is kept beside being logged.
    pub capture: bool,
    /// Most bytes of address space it and its children may each have.
    pub memory: Option<u64>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its end.
    pub status: Status,
    /// What it wrote, where that was to be kept.
    pub stdout: Vec<u8>,
    /// What it complained about, where that was to be kept.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub duration: Duration,
    /// Its last lines, redacted.
    pub tail: Option<String>,
}

/// A command's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It ended by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Its own time was up.
    TimedOut,
    /// The job had to stop.
    Stopped(StopReason),
}

/// Why a command could not be run, or its result not be used.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no such program.
    #[error("command not found: {0}")]
    NotFound(String),
    /// The directory is not one of the workspace.
    #[error("'{0}' is outside the workspace")]
    OutsideWorkspace(String),
    /// The definition asks for what this executor cannot do.
    #[error("{0}")]
    Definition(String),
    /// It said more than is kept.
    #[error("the command's output is larger than {CAPTURE_BYTES} bytes; pass capture = false, or write it to a file")]
    TooMuchOutput,
    /// The machinery failed.
    #[error("{0}")]
    Infra(String),
}

/// What a command needs of its job.
#[derive(Clone)]
pub struct Job {
    /// Where its output goes.
    pub log: Log,
    /// When to end it early.
    pub stop: Stop,
}

/// Runs commands in one place.
pub enum Executor {
    /// Processes of this machine.
    Host(host::Host),
    /// A container.
    Podman(Box<podman::Podman>),
}

impl Executor {
    /// Gets ready to run commands; what takes long (an image, a container) happens here, before the stage's time starts.
    pub async fn prepare(&self, job: &Job) -> Result<(), ExecError> {
        match self {
            Self::Host(_) => Ok(()),
            Self::Podman(podman) => podman.prepare(job).await,
        }
    }

    /// Runs one command to its end.
    pub async fn run(&self, command: &Command, job: &Job) -> Result<Exit, ExecError> {
        match self {
            Self::Host(host) => host.run(command, job).await,
            Self::Podman(podman) => podman.run(command, job).await,
        }
    }

    /// Ends everything that is still running.
    pub async fn finish(&self) {
        match self {
            Self::Host(host) => host.finish().await,
            Self::Podman(podman) => podman.finish().await,
        }
    }

    /// The workspace's path as commands see it.
    pub fn workspace(&self) -> &Path {
        match self {
            Self::Host(host) => host.workspace(),
            Self::Podman(_) => Path::new(podman::WORKSPACE),
        }
    }
}

impl Exit {
    pub(crate) fn new(status: Status, duration: Duration, tail: &Tail) -> Self {
        Self { status, stdout: Vec::new(), stderr: Vec::new(), duration, tail: tail.text() }
    }
}

/// The command with its memory bound: the shell sets the limit for itself and then becomes the command.
fn limited(command: &Command) -> Vec<String> {
    let Some(bytes) = command.memory else { return command.argv.clone() };
    let mut argv = ["sh", "-c", "ulimit -v \"$0\" && exec \"$@\""].map(str::to_owned).to_vec();
    argv.push((bytes / 1024).max(1).to_string());
    argv.extend(command.argv.iter().cloned());
    argv
}
