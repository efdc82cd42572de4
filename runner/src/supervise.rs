//! The agent's side of one job: its directories, its process, its log, its end.

use crate::agent::Held;
use crate::attempt::{Options, job_error};
use crate::client::{Backoff, Client, ClientError};
use crate::config::RunnerConfig;
use crate::job::{Frame, Input, Order};
use crate::logs::{ShipError, Shipper, Spool};
use crate::processes::{self, Family};
use crate::stop::StopReason;
use crate::workspace::Directories;
use anyhow::Context as _;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Conclusion, FinishRequest, Job, Outcome};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the agent wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobOrder {
    /// Stop, and report it.
    Stop(StopReason),
    /// The lease is somebody else's: kill it and report nothing.
    Fence,
}

/// How long a job process may take to end after its outcome.
const LAST_BREATH: Duration = Duration::from_secs(5);
/// How much longer than its grace a job may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// One job under supervision.
pub(crate) struct Supervisor {
    pub config: RunnerConfig,
    pub runner_id: String,
    pub client: Client,
    pub job: Job,
    pub held: Held,
    pub orders: mpsc::UnboundedReceiver<JobOrder>,
    /// An order to stop that came while a call to the server was under way.
    pub deferred: Option<StopReason>,
    /// What marks this claim's processes.
    pub mark: String,
}

/// Why nothing more is said about a job.
struct Fenced(&'static str);

struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    complaints: JoinHandle<String>,
    session: i32,
}

impl Supervisor {
    /// Runs the job to its end and leaves nothing behind.
    pub(crate) async fn run(mut self) {
        let jobs = self.config.data_dir.join("jobs");
        let (id, epoch) = (self.job.id.clone(), self.job.epoch);
        tracing::info!(job.id = id, job.epoch = epoch, "job {id} begins: stage {}", self.job.stage);
        let directories = Directories::create(&jobs, &id, epoch);
        let result = match &directories {
            Ok(directories) => self.work(directories).await,
            Err(error) => self.finish(infra(format!("the runner has no place for the job: {error:#}")), 0).await,
        };
        match result {
            Ok(()) => tracing::info!(job.id = id, "job {id} has ended"),
            Err(Fenced(why)) => tracing::warn!(job.id = id, "job {id} was killed: {why}"),
        }
        if let Ok(directories) = directories {
            let removed = tokio::task::spawn_blocking(move || directories.remove()).await;
            if let Ok(Err(error)) = removed {
                tracing::error!(job.id = id, "job {id} left files behind: {error:#}");
            }
        }
    }

    async fn work(&mut self, directories: &Directories) -> Result<(), Fenced> {
        let timers = &self.config.timers;
        let epoch = (self.job.id.as_str(), self.job.epoch);
        let spool = Spool::create(&directories.spool(), self.client.clone(), epoch, timers.log_flush, timers.retry);
        let (spool, shipper) = match spool {
            Ok(pair) => pair,
            Err(error) => return self.finish(infra(format!("{error:#}")), 0).await,
        };
        let shipping = AbortOnDrop(tokio::spawn(Shipper::run(shipper)));
        let outcome = match self.spawn(directories).await {
            Ok(process) => self.supervise(process, &spool).await?,
            Err(error) => infra(format!("the job's process could not be started: {error:#}")),
        };
        spool.close();
        self.shipped(shipping).await?;
        self.finish(outcome, spool.length()).await
    }

    async fn spawn(&self, directories: &Directories) -> anyhow::Result<Process> {
        let (program, arguments) = self.config.job_command.split_first().context("no job command is configured")?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear().envs(self.job_environment()).current_dir("/").kill_on_drop(true);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().with_context(|| format!("could not run {}", program.to_string_lossy()))?;
        let session = child.id().context("it ended at once")?.cast_signed();
        let mut stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut stderr = child.stderr.take().context("no stderr")?;
        let complaints = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = (&mut stderr).take(8 << 10).read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let input = Input { job: self.job.clone(), options: self.options(directories), lease_ms: self.lease_left() };
        let mut line = serde_json::to_vec(&input)?;
        line.push(b'\n');
        stdin.write_all(&line).await.context("it took no job")?;
        Ok(Process { child, stdin, stdout, complaints, session })
    }

    /// The job process gets what its commands may have and what podman needs, and no setting or secret of the runner.
    fn job_environment(&self) -> Vec<(String, String)> {
        let names = self.config.pass_environment.iter().map(String::as_str);
        names
            .chain(crate::executor::podman::CLIENT_ENVIRONMENT.iter().copied())
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect()
    }

    fn options(&self, directories: &Directories) -> Options {
        Options {
            executors: self.config.executors.clone(),
            workspace: directories.workspace(),
            home: directories.home(),
            temporary: directories.temporary(),
            pass_environment: self.config.pass_environment.clone(),
            timeout_seconds: self.config.job_timeout_seconds,
            grace: self.config.timers.grace,
            checkout: self.config.checkout_policy(),
            podman: self.config.podman.clone(),
            runner: self.config.name.clone(),
            runner_id: self.runner_id.clone(),
            mark: self.mark.clone(),
        }
    }

    async fn supervise(&mut self, process: Process, spool: &Spool) -> Result<Outcome, Fenced> {
        let Process { mut child, stdin, mut stdout, complaints, session } = process;
        let (frames, mut incoming) = mpsc::channel(64);
        // A task of its own, because reading a frame cannot be begun again half-way through.
        let reading = AbortOnDrop(tokio::spawn(async move {
            while let Ok(Some(frame)) = Frame::read(&mut stdout).await {
                if frames.send(frame).await.is_err() {
                    break;
                }
            }
        }));
        let result = self.converse(stdin, &mut incoming, spool).await;
        if matches!(result, Ok(Some(_))) {
            let _ = tokio::time::timeout(LAST_BREATH, child.wait()).await;
        }
        drop(reading);
        let _ = child.start_kill();
        let status = tokio::time::timeout(LAST_BREATH, child.wait()).await;
        let family = Family::Job { mark: self.mark.clone(), session };
        let _ = tokio::task::spawn_blocking(move || processes::kill_all(&family)).await;
        match result? {
            Some(outcome) => Ok(outcome),
            None => {
                let status = status
                    .map_or_else(|_| "no end".into(), |ended| ended.map_or_else(|e| e.to_string(), |s| s.to_string()));
                let said = complaints.await.unwrap_or_default();
                Ok(infra(format!("the job's process ended unexpectedly ({status}) {said}").trim().to_owned()))
            }
        }
    }

    async fn converse(
        &mut self,
        mut stdin: ChildStdin,
        incoming: &mut mpsc::Receiver<Frame>,
        spool: &Spool,
    ) -> Result<Option<Outcome>, Fenced> {
        let mut lease = self.held.lease.subscribe();
        let mut kill_at: Option<Instant> = None;
        loop {
            let deadline = *lease.borrow_and_update() + self.config.timers.self_fence;
            if let Some(reason) = self.deferred.take() {
                say(&mut stdin, Order::Stop(reason)).await;
                kill_at.get_or_insert(Instant::now() + self.config.timers.grace + STOP_LIMIT);
            }
            let limit = kill_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => {
                    return Err(Fenced("its lease could not be renewed in time"));
                }
                order = self.orders.recv() => match order {
                    Some(JobOrder::Stop(reason)) => self.deferred = Some(reason),
                    Some(JobOrder::Fence) | None => return Err(Fenced("its lease is somebody else's")),
                },
                _ = lease.changed() => say(&mut stdin, Order::Lease(self.lease_left())).await,
                frame = incoming.recv() => match frame {
                    Some(Frame::Log(bytes)) => {
                        if let Err(error) = spool.append(&bytes) {
                            return Ok(Some(infra(format!("the log could not be written: {error}"))));
                        }
                    }
                    Some(Frame::Ready) => {
                        self.start().await?;
                        say(&mut stdin, Order::Go).await;
                    }
                    Some(Frame::Outcome(outcome)) => return Ok(Some(*outcome)),
                    None => return Ok(None),
                },
                () = tokio::time::sleep_until(limit), if kill_at.is_some() => {
                    return Ok(Some(infra("the job did not stop when it was told to".into())));
                }
            }
        }
    }

    /// Milliseconds for which the lease may be trusted.
    fn lease_left(&self) -> u64 {
        let deadline = *self.held.lease.borrow() + self.config.timers.self_fence;
        u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
    }

    async fn start(&mut self) -> Result<(), Fenced> {
        let (client, id, epoch) = (self.client.clone(), self.job.id.clone(), self.job.epoch);
        self.persist(move || {
            let (client, id) = (client.clone(), id.clone());
            async move { client.start(&id, epoch).await }
        })
        .await
    }

    async fn finish(&mut self, outcome: Outcome, log_bytes: u64) -> Result<(), Fenced> {
        let (client, id) = (self.client.clone(), self.job.id.clone());
        let request = FinishRequest { epoch: self.job.epoch, outcome, log_bytes };
        self.persist(move || {
            let (client, id, request) = (client.clone(), id.clone(), request.clone());
            async move { client.finish(&id, &request).await }
        })
        .await
    }

    /// Makes a call until it is answered, for as long as the lease is ours. Both calls it is for may be repeated.
    async fn persist<F>(&mut self, call: impl Fn() -> F) -> Result<(), Fenced>
    where
        F: Future<Output = Result<(), ClientError>>,
    {
        let mut backoff = Backoff::new(self.config.timers.retry, Duration::from_secs(5));
        loop {
            match self.while_held(call()).await? {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    tracing::debug!(job.id = self.job.id, "will try again: {error}");
                    self.while_held(tokio::time::sleep(backoff.delay())).await?;
                }
                Err(error) => {
                    tracing::warn!(job.id = self.job.id, "the server refused: {error}");
                    return Err(Fenced("the server says it is not this runner's"));
                }
            }
        }
    }

    async fn shipped(&mut self, shipping: AbortOnDrop<Result<(), ShipError>>) -> Result<(), Fenced> {
        let mut shipping = shipping;
        match self.while_held(&mut shipping.0).await? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                // The result is worth more than the log; the server sees from the byte count that some is missing.
                tracing::warn!(job.id = self.job.id, "the log is incomplete: {error}");
                Ok(())
            }
            Err(error) => {
                tracing::error!(job.id = self.job.id, "the log's task failed: {error}");
                Ok(())
            }
        }
    }

    /// Awaits something for as long as the lease may be trusted.
    async fn while_held<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Fenced> {
        tokio::pin!(future);
        let mut lease = self.held.lease.subscribe();
        loop {
            let deadline = *lease.borrow_and_update() + self.config.timers.self_fence;
            tokio::select! {
                biased;
                done = &mut future => return Ok(done),
                () = tokio::time::sleep_until(deadline) => return Err(Fenced("its lease could not be renewed in time")),
                _ = lease.changed() => {}
                order = self.orders.recv() => match order {
                    Some(JobOrder::Stop(reason)) => {
                        self.deferred.get_or_insert(reason);
                    }
                    Some(JobOrder::Fence) | None => return Err(Fenced("its lease is somebody else's")),
                },
            }
        }
    }
}

async fn say(stdin: &mut ChildStdin, order: Order) {
    if let Ok(mut line) = serde_json::to_vec(&order) {
        line.push(b'\n');
        // A process that reads no more has ended, which its other pipe tells.
        let _ = stdin.write_all(&line).await;
    }
}

fn infra(message: String) -> Outcome {
    Outcome {
        conclusion: Conclusion::Failed,
        error: Some(job_error(ErrorClass::InfraError, message)),
        outputs: serde_json::Map::new(),
        annotations: Vec::new(),
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
