//! Follows a run of a server to its end, for people.

use super::client::{CallError, Client, Run, segment};
use super::progress::{Progress, TAIL_LINES, Tail};
use super::{Exit, Failure, output};
use crate::model::time::Timestamp;
use std::time::{Duration, Instant};

/// How often a run is looked at without being told of a change.
const POLL: Duration = Duration::from_secs(1);
/// How long a server may be away (a restart, an upgrade) before following it ends.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stages whose log is shown at the end; the others are named.
const TAILS: usize = 5;

/// How to follow.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Gives up after so long; the run goes on.
    pub timeout: Option<Duration>,
    /// Prints the run as JSON on stdout at the end.
    pub json: bool,
}

/// Follows the run with `id` on stderr until it ends, and answers with its outcome. Ctrl-C and a timeout end the
/// following, never the run.
pub async fn run(client: &Client, id: &str, options: &Options) -> Result<Exit, Failure> {
    let mut progress = Progress::new();
    let ended = tokio::select! {
        ended = to_the_end(client, id, &mut progress) => ended,
        exit = interruption(options.timeout) => {
            progress.clear();
            let why = if exit == Exit::TimedOut { "the time is up" } else { "interrupted" };
            output::note(&format!("{why}; the run goes on: rivet run watch {id}"));
            return Ok(exit);
        }
    };
    let run = match ended {
        Ok(run) => run,
        Err(error) => {
            progress.clear();
            return Err(error.into());
        }
    };
    let tails = tails(client, &run).await;
    progress.finish(&run, &tails, Timestamp::now());
    if options.json {
        output::print_json(&run);
    }
    Ok(outcome(&run))
}

/// The exit code a run stands for.
pub fn outcome(run: &Run) -> Exit {
    use pipelines_spec::plan::ErrorClass;
    let rejected = |s: &super::client::Stage| s.error.as_ref().is_some_and(|e| e.class == ErrorClass::Rejected);
    match run.state.as_str() {
        "completed" => Exit::Done,
        "cancelled" => Exit::Cancelled,
        "failed" if run.stages.iter().any(rejected) => Exit::Rejected,
        "failed" | "diverged" | "stuck" => Exit::Failed,
        _ => Exit::Unfinished,
    }
}

/// One line that says which run this is.
pub fn headline(run: &Run) -> String {
    let sha = run.short_sha();
    let title = if run.title.is_empty() { String::new() } else { format!(" “{}”", output::clean(&run.title)) };
    let [pipeline, branch, url] = [&run.pipeline, run.branch(), &run.url].map(output::clean);
    format!("{pipeline} #{} on {branch} {sha}{title}\n  {url}", run.number)
}

async fn interruption(timeout: Option<Duration>) -> Exit {
    let timer = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = timer => Exit::TimedOut,
        _ = tokio::signal::ctrl_c() => Exit::Interrupted,
    }
}

async fn to_the_end(client: &Client, id: &str, progress: &mut Progress) -> Result<Run, CallError> {
    let run = client.run(id).await?;
    progress.say(&headline(&run));
    let mut changes =
        Changes { client, path: format!("/api/v1/runs/{}/events", segment(id)), events: None, next_try: None };
    let mut away: Option<Instant> = None;
    let mut latest: Result<Run, CallError> = Ok(run);
    loop {
        match latest {
            Ok(run) => {
                away = None;
                progress.update(&run, Timestamp::now());
                if run.has_ended() {
                    return Ok(run);
                }
            }
            Err(error) if error.status.is_none_or(|s| s >= 502) => {
                let since = *away.get_or_insert_with(|| {
                    progress.say("the server is away; waiting for it to come back");
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        changes.wait().await;
        latest = client.run(id).await;
    }
}

/// Tells when it is worth looking again: at an event, or after [`POLL`].
struct Changes<'a> {
    client: &'a Client,
    path: String,
    events: Option<super::client::Events>,
    next_try: Option<Instant>,
}

impl Changes<'_> {
    async fn wait(&mut self) {
        if self.events.is_none() && self.next_try.is_none_or(|at| at <= Instant::now()) {
            self.next_try = Some(Instant::now() + Duration::from_secs(5));
            self.events = self.client.events(&self.path, None).await.ok();
        }
        let Some(events) = &mut self.events else {
            tokio::time::sleep(POLL).await;
            return;
        };
        match tokio::time::timeout(POLL, events.next()).await {
            // Changes come in bursts; one look is enough for those of the same moment.
            Ok(Some(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(None) => {
                self.events = None;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(_) => {}
        }
    }
}

async fn tails(client: &Client, run: &Run) -> Vec<Tail> {
    let mut tails = vec![];
    for stage in run.stages.iter().filter(|s| s.error.is_some() && s.state != "cancelled").take(TAILS) {
        let path = format!("/api/v1/runs/{}/stages/{}/logs", segment(&run.id), segment(&stage.name));
        let text = match client.text(&path).await {
            Ok(text) => text,
            // What the error itself carries is better than nothing.
            Err(_) => stage.error.as_ref().and_then(|e| e.tail.clone()).unwrap_or_default(),
        };
        let more = format!("rivet run logs {} --stage '{}'", run.id, output::clean(&stage.name));
        tails.push(Tail { stage: stage.name.clone(), lines: last_lines(&text, TAIL_LINES), more: Some(more) });
    }
    tails
}

/// The last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(ToString::to_string).collect()
}
