//! The process of one job.
//!
//! The agent starts it, writes the job on its stdin and keeps that pipe open for orders; the process writes frames to its
//! stdout. It leads a session of its own and adopts every orphan below it. When the pipe closes (the agent died) or the
//! lease it was told of runs out (the agent hangs, or was paused), it kills everything below it and ends.

use crate::attempt::{Attempt, Options};
use crate::log::Sink;
use crate::processes::{self, Family};
use crate::stop::{Stop, StopReason};
use anyhow::Context as _;
use pipelines_spec::protocol::{Job, LOG_CHUNK_BYTES, Outcome};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most bytes of one frame: a log chunk is far smaller, an outcome is bounded by its outputs.
const FRAME_BYTES: usize = 16 << 20;
/// How a job process ends that was cut off.
const CUT_OFF: i32 = 70;

/// What the agent writes first, as one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Input {
    pub job: Job,
    pub options: Options,
    /// Milliseconds until its lease is not to be trusted any more.
    pub lease_ms: u64,
}

/// What the agent writes afterwards, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// User code may start.
    Go,
    /// Stop.
    Stop(StopReason),
    /// The lease was renewed: so many milliseconds from now.
    Lease(u64),
}

/// What the job process says.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Bytes of the log, redacted.
    Log(Vec<u8>),
    /// It wants to start user code.
    Ready,
    /// Its end.
    Outcome(Box<Outcome>),
}

impl Frame {
    fn encode(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(kind);
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads one frame; `None` at the end.
    pub(crate) async fn read(source: &mut (impl tokio::io::AsyncRead + Unpin)) -> anyhow::Result<Option<Self>> {
        use tokio::io::AsyncReadExt as _;
        let kind = match source.read_u8().await {
            Ok(kind) => kind,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let length = source.read_u32().await? as usize;
        anyhow::ensure!(length <= FRAME_BYTES, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        source.read_exact(&mut payload).await?;
        match kind {
            b'L' => Ok(Some(Self::Log(payload))),
            b'R' => Ok(Some(Self::Ready)),
            b'O' => Ok(Some(Self::Outcome(serde_json::from_slice(&payload)?))),
            other => anyhow::bail!("a frame of unknown kind {other}"),
        }
    }
}

/// Runs the job that stdin describes; the whole of a job process.
pub fn job_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Read by the agent, which logs it.
            eprintln!("job process: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // Fails only where it is a session's leader already.
    let _ = nix::unistd::setsid();
    processes::become_subreaper().context("could not become a subreaper")?;
    let mut stdin = BufReader::new(std::io::stdin());
    let mut line = String::new();
    stdin.read_line(&mut line).context("could not read the job")?;
    let input: Input = serde_json::from_str(&line).context("could not read the job")?;
    drop(line);

    let stop = Stop::default();
    let (go, may_go) = watch::channel(false);
    let (renewals, leases) = mpsc::channel();
    let deadline = Instant::now() + Duration::from_millis(input.lease_ms);
    let containers = containers(&input);
    let orders_stop = stop.clone();
    std::thread::Builder::new().name("orders".into()).spawn(move || obey(stdin, &orders_stop, &go, &renewals))?;
    std::thread::Builder::new().name("lease".into()).spawn(move || watch_lease(&leases, deadline, &containers))?;

    let outcome = attempt(input, may_go, stop)?;
    if let Some(outcome) = outcome {
        write(b'O', &serde_json::to_vec(&outcome)?)?;
    }
    // What still runs in threads of ours ends here; what ran below us was killed with the attempt's end.
    std::process::exit(0);
}

fn attempt(input: Input, mut may_go: watch::Receiver<bool>, stop: Stop) -> anyhow::Result<Option<Outcome>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sink: Sink = Box::new(|bytes| {
        for piece in bytes.chunks(LOG_CHUNK_BYTES) {
            // Without an agent to read it there is nobody to log for; the closed stdin ends this process.
            let _ = write(b'L', piece);
        }
    });
    let attempt = Attempt::new(input.job, input.options, sink, stop.clone());
    let start = async move {
        if write(b'R', &[]).is_err() {
            return false;
        }
        tokio::select! {
            gone = may_go.wait_for(|go| *go) => gone.is_ok(),
            _ = stop.requested() => true,
        }
    };
    let outcome = runtime.block_on(attempt.run(start));
    runtime.shutdown_background();
    Ok(outcome)
}

static STDOUT: Mutex<()> = Mutex::new(());

fn write(kind: u8, payload: &[u8]) -> std::io::Result<()> {
    let _whole_frames = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout().lock();
    out.write_all(&Frame::encode(kind, payload))?;
    out.flush()
}

fn obey(stdin: BufReader<impl Read>, stop: &Stop, go: &watch::Sender<bool>, renewals: &mpsc::Sender<Option<Instant>>) {
    for line in stdin.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Order::Go) => {
                go.send_replace(true);
            }
            Ok(Order::Stop(reason)) => stop.request(reason),
            Ok(Order::Lease(milliseconds)) => {
                let _ = renewals.send(Some(Instant::now() + Duration::from_millis(milliseconds)));
            }
            Err(_) => break,
        }
    }
    let _ = renewals.send(None);
}

/// Kills everything when the lease runs out or the agent is gone. A thread of its own, because neither a busy script nor
/// a full pipe may keep it from doing so.
fn watch_lease(renewals: &mpsc::Receiver<Option<Instant>>, mut deadline: Instant, containers: &[Vec<String>]) {
    while let Ok(Some(renewed)) = renewals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        deadline = renewed;
    }
    let own = Family::Below(std::process::id().cast_signed());
    // Containers first: without its monitor a container would go on unwatched.
    let removals: Vec<_> = containers.iter().filter_map(|argv| remove(argv)).collect();
    for mut removal in removals {
        let _ = removal.wait();
    }
    processes::kill_all(&own);
    std::process::exit(CUT_OFF);
}

fn remove(argv: &[String]) -> Option<std::process::Child> {
    use std::process::{Command, Stdio};
    let (program, arguments) = argv.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}

fn containers(input: &Input) -> Vec<Vec<String>> {
    crate::executor::podman::removals(&input.job, &input.options)
}
