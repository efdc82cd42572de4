//! One attempt of one job, from an empty directory to its outcome.

use crate::checkout::{self, CheckoutError, Policy};
use crate::executor::host::Host;
use crate::executor::podman::{Podman, PodmanOptions};
use crate::executor::{self, Command, ExecError, Executor, Exit, Status};
use crate::facts;
use crate::log::{Log, Sink};
use crate::redact::Patterns;
use crate::script;
use crate::stop::{Stop, StopReason};
use pipelines_spec::plan::{Action, ErrorClass};
use pipelines_spec::protocol::{Conclusion, ExecutorKind, Job, JobError, JobKind, Outcome, Trust};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RUSTUP_HOME: &str = "RUSTUP_HOME";

/// What a runner decides about a job, beside what the job says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// The executors it offers, the preferred one first.
    pub executors: Vec<ExecutorKind>,
    /// The directory commands start in.
    pub workspace: PathBuf,
    /// Their home directory.
    pub home: PathBuf,
    /// Where they may keep temporary files.
    pub temporary: PathBuf,
    /// What host commands get of the runner's own environment, by name.
    pub pass_environment: Vec<String>,
    /// Seconds a job may take that says nothing of it.
    pub timeout_seconds: u64,
    /// How long commands may take to obey SIGTERM.
    pub grace: Duration,
    /// Where checkouts may come from.
    pub checkout: Policy,
    /// How containers are made.
    pub podman: PodmanOptions,
    /// The runner's name, for people.
    pub runner: String,
    /// The runner's id, for labels of containers.
    pub runner_id: String,
    /// What marks this attempt's processes: new for every attempt, so that none is taken for another's.
    pub mark: String,
}

impl Options {
    /// For a job of this machine's own working tree `workspace`, with no server: the host, and files under `scratch`,
    /// which the caller makes and removes.
    pub fn local(workspace: PathBuf, scratch: &Path) -> std::io::Result<Self> {
        let (home, temporary) = (scratch.join("home"), scratch.join("tmp"));
        for directory in [&home, &temporary] {
            std::fs::create_dir_all(directory)?;
        }
        Ok(Self {
            executors: vec![ExecutorKind::Host],
            workspace,
            home,
            temporary,
            pass_environment: crate::config::default_pass_environment(),
            timeout_seconds: 6 * 3_600,
            grace: Duration::from_secs(10),
            checkout: Policy::default(),
            podman: PodmanOptions::default(),
            runner: crate::config::host_name(),
            runner_id: "local".into(),
            mark: new_mark("local"),
        })
    }
}

/// Everything one attempt works with.
pub struct Attempt {
    pub(crate) job: Job,
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) stop: Stop,
}

/// How an attempt ended before its outcome was known.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With an error of the user's or ours.
    Error(Box<JobError>),
    /// The server said the job is somebody else's.
    Fenced,
}

impl From<JobError> for Ending {
    fn from(error: JobError) -> Self {
        Self::Error(Box::new(error))
    }
}

/// A [`JobError`] of a class and a sentence.
pub(crate) fn job_error(class: ErrorClass, message: impl Into<String>) -> JobError {
    JobError { class, message: message.into(), command: None, exit_code: None, tail: None, at: None }
}

impl Attempt {
    /// An attempt of `job` that logs to `sink`, redacted.
    pub fn new(job: Job, options: Options, sink: Sink, stop: Stop) -> Self {
        let token = job.checkout.as_ref().and_then(|checkout| checkout.token.as_deref());
        let hidden = job.secrets.values().chain(&job.redact).map(String::as_str).chain(token);
        let log = Log::new(Patterns::new(hidden), stop.clone(), sink);
        Self { job, options, log, stop }
    }

    /// Runs it. `start` tells the server that user code begins, and answers whether it may; without the permission there
    /// is no outcome, because the job is somebody else's.
    pub async fn run(self, start: impl Future<Output = bool>) -> Option<Outcome> {
        let executor = match self.executor() {
            Ok(executor) => executor,
            Err(error) => return Some(self.failed(error)),
        };
        let result = self.stages(&executor, start).await;
        executor.finish().await;
        match result {
            Ok(outcome) => Some(self.redacted(outcome)),
            Err(Ending::Error(error)) => Some(self.failed(*error)),
            Err(Ending::Fenced) => None,
        }
    }

    async fn stages(&self, executor: &Executor, start: impl Future<Output = bool>) -> Result<Outcome, Ending> {
        self.announce();
        self.check_out().await?;
        let job = self.exec_job();
        let prepared = executor.prepare(&job).await;
        // A job that was stopped meanwhile did not fail, whatever the cut-off preparation says.
        self.not_stopped()?;
        prepared.map_err(|error| self.exec_error(&error, None))?;
        if !start.await {
            return Err(Ending::Fenced);
        }
        self.not_stopped()?;
        let limit = Duration::from_secs(self.job.timeout_seconds.unwrap_or(self.options.timeout_seconds));
        let clock = tokio::spawn(stop_after(limit, self.stop.clone()));
        let result = self.act(executor, &job).await;
        clock.abort();
        // What was told to stop did not succeed, whatever it made of it.
        self.not_stopped()?;
        result.map_err(Ending::from)
    }

    async fn act(&self, executor: &Executor, job: &executor::Job) -> Result<Outcome, JobError> {
        match &self.job.action {
            Action::Run { run } => self.run_lines(run, executor, job).await,
            Action::Script => script::run(self, executor, job).await,
            Action::Pipeline { pipeline, .. } => Err(job_error(
                ErrorClass::DefinitionError,
                format!("pipeline '{pipeline}' is started by the server, not by a runner"),
            )),
        }
    }

    async fn run_lines(&self, lines: &[String], executor: &Executor, job: &executor::Job) -> Result<Outcome, JobError> {
        for line in lines {
            self.log.line(&format!("$ {line}"));
            let command = Command {
                argv: vec!["sh".into(), "-c".into(), line.clone()],
                env: self.job.run_values.clone(),
                ..Command::default()
            };
            let exit = executor.run(&command, job).await.map_err(|error| self.exec_error(&error, Some(line)))?;
            if let Some(error) = self.exit_error(&exit, line) {
                return Err(error);
            }
        }
        Ok(succeeded(serde_json::Map::new()))
    }

    async fn check_out(&self) -> Result<(), Ending> {
        let Some(what) = &self.job.checkout else { return Ok(()) };
        self.log.line(&format!("Checking out {} at {}", self.job.run.repo, what.sha));
        let place = checkout::Place {
            workspace: self.options.workspace.clone(),
            home: self.options.home.clone(),
            mark: self.options.mark.clone(),
            grace: self.options.grace,
        };
        let done = checkout::checkout(what, &self.options.checkout, place, &self.exec_job()).await;
        done.map_err(|error| match error {
            CheckoutError::Stopped(reason) => self.stopped(reason).into(),
            error => job_error(ErrorClass::InfraError, error.to_string()).into(),
        })
    }

    /// Where this job's commands run: a container where the stage names one, and for what nobody reviewed in any case.
    fn executor(&self) -> Result<Executor, JobError> {
        let offers = |kind| self.options.executors.contains(&kind);
        let trusted = self.job.trust == Trust::Trusted;
        let image = self.job.container.clone();
        match (image, trusted) {
            (None, true) if offers(ExecutorKind::Host) => self.host().map(Executor::Host),
            (image, _) if offers(ExecutorKind::Podman) => {
                let image = image.unwrap_or_else(|| self.options.podman.default_image.clone());
                Ok(Executor::Podman(Box::new(Podman::new(self, image)?)))
            }
            (Some(image), _) => Err(job_error(
                ErrorClass::InfraError,
                format!("the stage asks for the image {image}, and this runner has no podman"),
            )),
            (None, false) => Err(job_error(
                ErrorClass::InfraError,
                "code that was not reviewed runs in containers only, and this runner has no podman",
            )),
            (None, true) => Err(job_error(ErrorClass::InfraError, "this runner offers no executor for the job")),
        }
    }

    fn host(&self) -> Result<Host, JobError> {
        if !self.job.services.is_empty() {
            return Err(job_error(
                ErrorClass::DefinitionError,
                "services need a container: give the stage a `container`",
            ));
        }
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for name in &self.options.pass_environment {
            if let Ok(value) = std::env::var(name) {
                environment.insert(name.clone(), value);
            }
        }
        if let Some(toolchains) = self.toolchains().filter(|_| !environment.contains_key(RUSTUP_HOME)) {
            environment.insert(RUSTUP_HOME.into(), toolchains);
        }
        environment.insert("HOME".into(), self.options.home.display().to_string());
        environment.insert("TMPDIR".into(), self.options.temporary.display().to_string());
        environment.extend(facts::environment(&self.job, &self.options.workspace));
        Ok(Host::new(self.options.workspace.clone(), environment, self.options.mark.clone(), self.options.grace))
    }

    /// Where rustup keeps its toolchains, which it would look for in the job's own home.
    fn toolchains(&self) -> Option<String> {
        let wanted = self.options.pass_environment.iter().any(|name| name == RUSTUP_HOME);
        let directory = PathBuf::from(std::env::var_os("HOME").filter(|_| wanted)?).join(".rustup");
        directory.is_dir().then(|| directory.display().to_string())
    }

    /// What an executor needs to know of this job.
    pub(crate) fn exec_job(&self) -> executor::Job {
        executor::Job { log: self.log.clone(), stop: self.stop.clone() }
    }

    fn announce(&self) {
        let job = &self.job;
        let what = match job.kind {
            JobKind::Stage => "Stage",
            JobKind::Rollback => "Rollback of stage",
        };
        self.log.line(&format!(
            "{what} {} of {} #{}, attempt {} of {}, on {}",
            job.stage, job.run.pipeline, job.run.number, job.attempt, job.max_attempts, self.options.runner
        ));
    }

    fn not_stopped(&self) -> Result<(), Ending> {
        self.stop.reason().map_or(Ok(()), |reason| Err(self.stopped(reason).into()))
    }

    fn stopped(&self, reason: StopReason) -> JobError {
        let limit = self.job.timeout_seconds.unwrap_or(self.options.timeout_seconds);
        match reason {
            StopReason::Cancelled => job_error(ErrorClass::Cancelled, "the job was cancelled"),
            StopReason::TimedOut => {
                job_error(ErrorClass::Timeout, format!("the stage took longer than its timeout of {limit} s"))
            }
            StopReason::LogLimit => job_error(
                ErrorClass::Limit,
                format!("log.limit: the log is longer than {} bytes", pipelines_spec::protocol::LOG_JOB_BYTES),
            ),
            StopReason::RunnerStopped => {
                job_error(ErrorClass::LostRunner, "the runner was stopped while the job ran on it")
            }
        }
    }

    /// What it means that a command could not be run.
    pub(crate) fn exec_error(&self, error: &ExecError, command: Option<&str>) -> JobError {
        let class = match error {
            ExecError::NotFound(_) => ErrorClass::CommandFailed,
            ExecError::OutsideWorkspace(_) => ErrorClass::ScriptError,
            ExecError::Definition(_) => ErrorClass::DefinitionError,
            ExecError::TooMuchOutput => ErrorClass::Limit,
            ExecError::Infra(_) => ErrorClass::InfraError,
        };
        let exit_code = matches!(error, ExecError::NotFound(_)).then_some(127);
        JobError { command: command.map(str::to_owned), exit_code, ..job_error(class, error.to_string()) }
    }

    /// The error a command's end is, if it is one.
    pub(crate) fn exit_error(&self, exit: &Exit, command: &str) -> Option<JobError> {
        let failed = |message: String, code| JobError {
            command: Some(command.to_owned()),
            exit_code: code,
            tail: exit.tail.clone(),
            ..job_error(ErrorClass::CommandFailed, message)
        };
        let shown = script::shorten(command);
        match exit.status {
            Status::Code(0) => None,
            Status::Code(code) => Some(failed(format!("`{shown}` exited with code {code}"), Some(code))),
            Status::Signal(signal) => {
                Some(failed(format!("`{shown}` was ended by signal {signal}"), Some(128 + signal)))
            }
            Status::TimedOut => Some(JobError {
                class: ErrorClass::Timeout,
                ..failed(format!("`{shown}` took longer than its timeout ({:.1} s)", exit.duration.as_secs_f64()), None)
            }),
            Status::Stopped(reason) => Some(self.stopped(reason)),
        }
    }

    fn failed(&self, error: JobError) -> Outcome {
        let conclusion = if error.class == ErrorClass::Cancelled { Conclusion::Cancelled } else { Conclusion::Failed };
        let outcome =
            Outcome { conclusion, error: Some(error), outputs: serde_json::Map::new(), annotations: Vec::new() };
        let outcome = self.redacted(outcome);
        if let Some(error) = &outcome.error {
            let at = error.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
            self.log.line(&format!("{}: {at}{}", error.class, error.message));
        }
        outcome
    }

    /// Nothing leaves unredacted, whatever field it hides in.
    fn redacted(&self, mut outcome: Outcome) -> Outcome {
        let hide = |text: &mut String| *text = self.log.redact(text);
        if let Some(error) = &mut outcome.error {
            hide(&mut error.message);
            [&mut error.command, &mut error.tail, &mut error.at].into_iter().flatten().for_each(hide);
        }
        for annotation in &mut outcome.annotations {
            hide(&mut annotation.path);
            hide(&mut annotation.message);
            annotation.title.as_mut().map(hide);
        }
        let mut outputs = Value::Object(std::mem::take(&mut outcome.outputs));
        self.log.patterns().redact_json(&mut outputs);
        if let Value::Object(outputs) = outputs {
            outcome.outputs = outputs;
        }
        outcome
    }
}

pub(crate) fn succeeded(outputs: serde_json::Map<String, Value>) -> Outcome {
    Outcome { conclusion: Conclusion::Succeeded, error: None, outputs, annotations: Vec::new() }
}

/// A new mark for the processes of one attempt.
pub fn new_mark(job: &str) -> String {
    format!("{job}.{}", ulid::Ulid::new())
}

async fn stop_after(limit: Duration, stop: Stop) {
    tokio::time::sleep(limit).await;
    stop.request(StopReason::TimedOut);
}

/// Runs a job in this process with no server: for `rivet exec`.
pub async fn run_local(job: Job, options: Options, sink: Sink, stop: Stop) -> Outcome {
    let attempt = Attempt::new(job, options, sink, stop);
    let never_fenced = attempt.run(std::future::ready(true)).await;
    never_fenced.unwrap_or_else(|| succeeded(serde_json::Map::new()))
}
