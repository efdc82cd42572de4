//! Commands as processes of this machine, for trusted runs only: nothing isolates them but their user.

use super::output::Pump;
use super::podman::Podman;
use super::{Command, ExecError, Exit, Job, Status, limited};
use crate::log::Tail;
use crate::processes::{self, Family, MARK};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;

/// How long a killed process may take to be gone before nobody waits for it any more.
const REAP: Duration = Duration::from_secs(5);

/// The host executor of one job.
pub struct Host {
    workspace: PathBuf,
    environment: BTreeMap<String, String>,
    mark: String,
    grace: Duration,
    number: AtomicU64,
}

impl Host {
    /// Runs commands in `workspace` with `environment` and nothing else of this process's own; `mark` is the job's.
    pub fn new(workspace: PathBuf, environment: BTreeMap<String, String>, mark: String, grace: Duration) -> Self {
        Self { workspace, environment, mark, grace, number: AtomicU64::new(0) }
    }

    /// The directory commands start in.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Runs one command to its end.
    pub async fn run(&self, command: &Command, job: &Job) -> Result<Exit, ExecError> {
        let directory = self.directory(command.cwd.as_deref())?;
        let mut environment = self.environment.clone();
        environment.extend(command.env.clone());
        self.spawn_and_wait(&limited(command), &environment, &directory, command, job).await
    }

    /// Runs `argv` as a marked process of this machine with exactly `environment`.
    pub(super) async fn spawn_and_wait(
        &self,
        argv: &[String],
        environment: &BTreeMap<String, String>,
        directory: &Path,
        command: &Command,
        job: &Job,
    ) -> Result<Exit, ExecError> {
        self.supervise(argv, environment, directory, command, job, &self.next_mark(), None).await
    }

    /// A mark for the next command.
    pub(super) fn next_mark(&self) -> String {
        // Of one width, so that none is the beginning of another.
        format!("{}.{:08}", self.mark, self.number.fetch_add(1, Ordering::Relaxed))
    }

    /// The same, for a command whose real processes are in `inside`, where signals to the client do not reach.
    #[expect(clippy::too_many_arguments, reason = "one private call, and each is a thing of its own")]
    pub(super) async fn supervise(
        &self,
        argv: &[String],
        environment: &BTreeMap<String, String>,
        directory: &Path,
        command: &Command,
        job: &Job,
        mark: &str,
        inside: Option<&Podman>,
    ) -> Result<Exit, ExecError> {
        let mark = mark.to_owned();
        let mut child = spawn(argv, environment, directory, &mark, command.stdin.is_some())?;
        let started = Instant::now();
        let family = Family::Command { pid: child.id().unwrap_or_default().cast_signed(), mark };

        let tail = Tail::default();
        let stdout = child.stdout.take().map(|out| Pump::start(out, job.log.stream(tail.clone()), command.capture));
        let stderr = child.stderr.take().map(|err| Pump::start(err, job.log.stream(tail.clone()), command.capture));
        feed(&mut child, command.stdin.clone());

        let status = self.wait(&mut child, &family, command.timeout, job, inside).await?;
        let mut exit = Exit::new(status, started.elapsed(), &tail);
        let (stdout, stderr) = (finish(stdout).await, finish(stderr).await);
        exit.tail = tail.text();
        exit.stdout = stdout?;
        exit.stderr = stderr?;
        Ok(exit)
    }

    async fn wait(
        &self,
        child: &mut Child,
        family: &Family,
        timeout: Option<Duration>,
        job: &Job,
        inside: Option<&Podman>,
    ) -> Result<Status, ExecError> {
        let deadline = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let early = tokio::select! {
            ended = child.wait() => return ended.map(status_of).map_err(|error| ExecError::Infra(error.to_string())),
            () = deadline => Status::TimedOut,
            reason = job.stop.requested() => Status::Stopped(reason),
        };
        match (inside, family) {
            (Some(container), Family::Command { mark, .. }) => container.signal(mark, "TERM").await,
            (_, family) => {
                processes::signal(family, Signal::SIGTERM);
            }
        }
        // The command may end while children that ignore the signal live on, so the rest is killed in any case.
        let _ = tokio::time::timeout(self.grace, all_gone(child, family)).await;
        if let (Some(container), Family::Command { mark, .. }) = (inside, family) {
            container.signal(mark, "KILL").await;
        }
        let family = family.clone();
        let _ = tokio::task::spawn_blocking(move || processes::kill_all(&family)).await;
        let _ = tokio::time::timeout(REAP, child.wait()).await;
        Ok(early)
    }

    /// Kills what commands left behind.
    pub async fn finish(&self) {
        let own = std::process::id().cast_signed();
        let mark = self.mark.clone();
        let kill = move || {
            // A session of -1 is nobody's: here the mark alone decides, since this process may run other jobs too.
            processes::kill_all(&Family::Job { mark, session: -1 });
            if is_job_process() {
                processes::kill_all(&Family::Below(own));
            }
        };
        let _ = tokio::task::spawn_blocking(kill).await;
    }

    fn directory(&self, cwd: Option<&str>) -> Result<PathBuf, ExecError> {
        let Some(cwd) = cwd else { return Ok(self.workspace.clone()) };
        let outside = || ExecError::OutsideWorkspace(cwd.to_owned());
        let path = self.workspace.join(inside(cwd).ok_or_else(outside)?);
        let real = path.canonicalize().map_err(|_| ExecError::NotFound(format!("directory {cwd}")))?;
        let root = self.workspace.canonicalize().map_err(|error| ExecError::Infra(error.to_string()))?;
        if real.starts_with(root) { Ok(real) } else { Err(outside()) }
    }
}

/// A path that cannot leave the directory it is joined to, by its text alone.
pub(super) fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
    path.components().all(plain).then_some(path)
}

/// Whether this process exists for one job only, so that everything below it is that job's.
fn is_job_process() -> bool {
    #[cfg(target_os = "linux")]
    return nix::sys::prctl::get_child_subreaper().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    return false;
}

async fn all_gone(child: &mut Child, family: &Family) {
    let _ = child.wait().await;
    while !processes::members(family).is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn finish(pump: Option<Pump>) -> Result<Vec<u8>, ExecError> {
    match pump {
        Some(pump) => pump.finish().await,
        None => Ok(Vec::new()),
    }
}

fn spawn(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    directory: &Path,
    mark: &str,
    stdin: bool,
) -> Result<Child, ExecError> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| ExecError::Definition("the command is empty".into()))?;
    if argv.iter().any(|part| part.contains('\0')) {
        return Err(ExecError::Definition("the command contains a NUL byte".into()));
    }
    tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .env(MARK, mark)
        .current_dir(directory)
        .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => ExecError::NotFound(program.clone()),
            _ => ExecError::Infra(format!("{program} could not be started: {error}")),
        })
}

fn feed(child: &mut Child, input: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        tokio::spawn(async move {
            // A command that does not read its input to the end is its own business.
            let _ = pipe.write_all(&input).await;
        });
    }
}

pub(super) fn status_of(status: ExitStatus) -> Status {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, Some(signal)) => Status::Signal(signal),
        (None, None) => Status::Code(-1),
    }
}
