//! Evaluates definitions, each in a short-lived, confined process of its own.
//!
//! What authors wrote runs in a virtual machine that was never meant to hold an attacker by itself, so the machine gets a
//! process ([`child`]) without files, network, environment or children, with little memory and little time. The parent
//! hands it one [`Request`] and reads one [`Response`]; whatever else happens to the child is a problem to report, never
//! a failure of the server.

pub mod child;

use moka::future::Cache;
use pipelines_spec::evaluate::{Request, Response};
use pipelines_spec::problem::{Location, Problem};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// The longest one evaluation may take, by the wall clock. The sandbox has a shorter limit of its own; this one holds
/// where the sandbox cannot look, such as inside the compiler.
const WALL_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const ANSWER_LIMIT: u64 = 4 << 20;
/// Most bytes kept of what a dying child says.
const STDERR_LIMIT: u64 = 8 << 10;
/// Most bytes of answers kept.
const CACHE_BYTES: u64 = 64 << 20;

/// Evaluates definitions. Cheap to clone; answers are cached by what was asked.
#[derive(Clone)]
pub struct Evaluator {
    inner: Arc<Inner>,
}

struct Inner {
    program: PathBuf,
    args: Vec<OsString>,
    wall_limit: Duration,
    permits: Semaphore,
    cache: Cache<[u8; 32], Arc<Cached>>,
}

struct Cached {
    response: Response,
    bytes: u32,
}

/// How an evaluation can end without an answer.
#[derive(Debug)]
enum Failure {
    Start(std::io::Error),
    Wall,
    Cpu,
    Answer(&'static str),
    Stopped(ExitStatus),
}

impl Default for Evaluator {
    /// Evaluates in processes of this same program (which must have the `evaluate-definition` command).
    fn default() -> Self {
        // The link in /proc still names the running program after an upgrade replaced its file.
        let link = PathBuf::from("/proc/self/exe");
        let program = if link.exists() { link } else { std::env::current_exe().unwrap_or_else(|_| "rivet".into()) };
        Self::new(program)
    }
}

impl Evaluator {
    /// Evaluates in processes of `program`, a `rivet`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self::with_args(program, vec![child::COMMAND.into()], WALL_LIMIT)
    }

    /// As [`Evaluator::new`] with other arguments, for programs that embed the evaluator under another name, and another
    /// limit of wall time.
    pub fn with_args(program: impl Into<PathBuf>, args: Vec<OsString>, wall_limit: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let cache = Cache::builder().max_capacity(CACHE_BYTES).weigher(|_, v: &Arc<Cached>| v.bytes).build();
        let permits = Semaphore::new(cores);
        Self { inner: Arc::new(Inner { program: program.into(), args, wall_limit, permits, cache }) }
    }

    /// Asks one question about one file of a commit. Always answers: when the evaluator's process dies or takes too long,
    /// the answer is a problem that says so. The same question is answered from memory the second time.
    pub async fn ask(&self, request: &Request) -> Response {
        let input = match serde_json::to_vec(request) {
            Ok(input) => input,
            Err(error) => return failed(request, &Failure::Start(error.into())),
        };
        let key: [u8; 32] = Sha256::digest(&input).into();
        let found = self.inner.cache.try_get_with(key, self.inner.evaluate(input)).await;
        match found {
            Ok(cached) => cached.response.clone(),
            Err(uncached) => match uncached.as_ref() {
                Uncached::Answer(response) => response.clone(),
                Uncached::Failure(failure) => failed(request, failure),
            },
        }
    }
}

/// What must not be remembered: it could go otherwise the next time.
enum Uncached {
    Answer(Response),
    Failure(Failure),
}

impl Inner {
    async fn evaluate(&self, input: Vec<u8>) -> Result<Arc<Cached>, Uncached> {
        let answer = self.run(input).await.map_err(Uncached::Failure)?;
        let response: Response = serde_json::from_slice(&answer)
            .map_err(|_| Uncached::Failure(Failure::Answer("it answered something that is no answer")))?;
        // A time limit depends on how busy the machine is.
        if response.problems.iter().any(|p| p.code == "config.timeout") {
            return Err(Uncached::Answer(response));
        }
        Ok(Arc::new(Cached { response, bytes: u32::try_from(answer.len()).unwrap_or(u32::MAX) }))
    }

    async fn run(&self, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        let mut child = self.spawn().map_err(Failure::Start)?;
        match tokio::time::timeout(self.wall_limit, converse(&mut child, input)).await {
            Ok(answer) => answer,
            Err(_) => {
                // Dropping the child would kill it too, but leave it to be reaped later.
                let _ = child.kill().await;
                Err(Failure::Wall)
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

async fn converse(child: &mut Child, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A child that died does not read; its exit status tells more than the broken pipe.
            let _ = stdin.write_all(&input).await;
        }
    };
    let ((), answer, complaint) = tokio::join!(write, read(stdout, ANSWER_LIMIT), read(stderr, STDERR_LIMIT));
    if answer.len() as u64 > ANSWER_LIMIT {
        let _ = child.kill().await;
        return Err(Failure::Answer("it answered more than 4 MiB"));
    }
    let status = child.wait().await.map_err(Failure::Start)?;
    if status.success() {
        return Ok(answer);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    tracing::warn!(%status, stderr = complaint.trim(), "an evaluator stopped without an answer: {status}");
    Err(if status.signal() == Some(nix::libc::SIGXCPU) { Failure::Cpu } else { Failure::Stopped(status) })
}

/// Up to `limit` + 1 bytes: the one too many tells that there was more.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could not be read is missing, and a missing answer is no answer.
        let _ = pipe.take(limit + 1).read_to_end(&mut bytes).await;
    }
    bytes
}

fn failed(request: &Request, failure: &Failure) -> Response {
    const BUG: &str = "This is a bug in Rivet; nothing was started.";
    let (code, message) = match failure {
        Failure::Wall => ("config.timeout", "evaluation took too long outside the sandbox and was stopped".to_owned()),
        Failure::Cpu => ("config.timeout", format!("evaluation exceeded {} s of processor time", child::CPU_SECONDS)),
        Failure::Start(error) => {
            ("config.evaluator_crashed", format!("the evaluator could not be started ({error}). {BUG}"))
        }
        Failure::Answer(what) => ("config.evaluator_crashed", format!("the evaluator failed: {what}. {BUG}")),
        Failure::Stopped(status) => {
            let how = match (status.signal(), status.code()) {
                (Some(signal), _) => format!("signal {signal}"),
                (None, Some(code)) => format!("exit code {code}"),
                (None, None) => "unknown status".to_owned(),
            };
            ("config.evaluator_crashed", format!("the evaluator stopped ({how}). {BUG}"))
        }
    };
    let at = Location { file: request.file.clone(), line: 1, column: 0 };
    Response { answer: None, problems: vec![Problem::error(code, message).at(at)] }
}
