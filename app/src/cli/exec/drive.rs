//! Drives a local run to its end: claims its jobs, does them, shows what they say, and stops when it is told.

use super::Ended;
use super::local::{Local, fault};
use crate::actions::cancel::cancel;
use crate::actions::claim::claim;
use crate::actions::finish_job::finish_job;
use crate::actions::heartbeat::heartbeat;
use crate::actions::start_job::start_job;
use crate::cli::client::Run;
use crate::cli::progress::{Progress, TAIL_LINES, Tail};
use crate::cli::{Failure, output};
use crate::engine::scheduler;
use crate::model::ids::{JobId, RunId};
use crate::model::time::Timestamp;
use crate::store::jobs::Hold;
use pipelines_spec::protocol::{ClaimRequest, FinishRequest, HeartbeatRequest, HeldJob, Job, JobCommand, JobKind};
use runner::attempt::Options;
use runner::processes::{self, Family};
use runner::stop::{Stop, StopReason};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often is looked without news.
const TICK: Duration = Duration::from_millis(150);
/// Seconds a job may take that says nothing of it, as on a runner.
const JOB_TIMEOUT_SECONDS: u64 = 6 * 3_600;
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// A line a stage said.
struct Said {
    stage: String,
    line: String,
}

struct Driver<'a> {
    local: &'a Local,
    run: &'a RunId,
    held: BTreeMap<String, (HeldJob, Stop)>,
    works: JoinSet<(String, Result<(), String>)>,
    lines: mpsc::UnboundedSender<Said>,
    incoming: mpsc::UnboundedReceiver<Said>,
    tails: BTreeMap<String, VecDeque<String>>,
    progress: Progress,
    to_stderr: bool,
    interrupted: bool,
    gated: bool,
}

/// Drives the run. With `to_stderr` what stages say goes there, because stdout is for data.
pub async fn to_the_end(local: &Local, run: &RunId, to_stderr: bool) -> Result<Ended, Failure> {
    // Whatever commands leave running becomes a child of ours, so that it can be found.
    processes::become_subreaper().map_err(fault)?;
    std::fs::create_dir_all(local.temporary()).map_err(fault)?;
    let (lines, incoming) = mpsc::unbounded_channel();
    let mut driver = Driver {
        local,
        run,
        held: BTreeMap::new(),
        works: JoinSet::new(),
        lines,
        incoming,
        tails: BTreeMap::new(),
        progress: Progress::new(),
        to_stderr,
        interrupted: false,
        gated: false,
    };
    let ended = driver.drive().await;
    driver.progress.clear();
    let own = std::process::id().cast_signed();
    tokio::task::spawn_blocking(move || processes::kill_all(&Family::Below(own))).await.map_err(fault)?;
    let run = ended?;
    driver.sum_up(&run);
    Ok(Ended::of(run, driver.interrupted, driver.gated))
}

impl Driver<'_> {
    async fn drive(&mut self) -> Result<Run, Failure> {
        let mut signals = Signals::new()?;
        loop {
            let now = Timestamp::now();
            scheduler::pass(&self.local.context, now).await?;
            self.claim().await?;
            self.obey(now).await?;
            let run = self.local.run(self.run).await?;
            self.progress.update(&run, now);
            if run.has_ended() && self.works.is_empty() {
                self.show_all();
                return Ok(run);
            }
            self.leave_at_a_gate(&run, now).await?;
            if !self.wait(&mut signals).await? {
                return self.local.run(self.run).await;
            }
        }
    }

    /// Takes the jobs that are ready and begins them.
    async fn claim(&mut self) -> Result<(), Failure> {
        let busy = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let slots = self.local.setting.slots.saturating_sub(busy);
        if slots == 0 {
            return Ok(());
        }
        let request = ClaimRequest {
            claim_id: ulid::Ulid::new().to_string(),
            slots,
            wait_seconds: 0,
            executors: self.local.executors.clone(),
            labels: self.local.labels.clone(),
        };
        let claimed = claim(&self.local.context, &self.local.runner, &request).await.map_err(fault)?;
        for job in claimed.jobs {
            self.begin(job);
        }
        Ok(())
    }

    fn begin(&mut self, mut job: Job) {
        job.secrets = self.local.setting.secrets.get(&job.base).cloned().unwrap_or_default();
        let stop = Stop::default();
        let held = HeldJob { id: job.id.clone(), epoch: job.epoch };
        self.held.insert(job.id.clone(), (held, stop.clone()));
        let name = match job.kind {
            JobKind::Stage => job.stage.clone(),
            JobKind::Rollback => format!("{} (rollback)", job.stage),
        };
        let sink = Lines { stage: name, rest: vec![], lines: self.lines.clone() };
        let options = self.options(&job);
        let (context, runner) = (self.local.context.clone(), self.local.runner.id.clone());
        self.works.spawn(async move {
            let id = JobId(job.id.clone());
            let epoch = job.epoch;
            let done = async {
                let hold = Hold { job: &id, runner: &runner, epoch };
                start_job(&context, &hold, Timestamp::now()).await.map_err(|e| e.to_string())?;
                let mut sink = sink;
                let outcome = runner::run_local(job, options, Box::new(move |bytes| sink.add(bytes)), stop).await;
                let request = FinishRequest { epoch, outcome, log_bytes: 0 };
                let finished = finish_job(&context, &runner, &id, request, Timestamp::now()).await;
                finished.map_err(|e| e.to_string())
            };
            let done = done.await;
            (id.0, done)
        });
    }

    fn options(&self, job: &Job) -> Options {
        let home = std::env::var_os("HOME").map_or_else(|| self.local.temporary(), Into::into);
        Options {
            executors: self.local.executors.clone(),
            workspace: self.local.setting.root.clone(),
            home,
            temporary: self.local.temporary(),
            pass_environment: passed(),
            timeout_seconds: JOB_TIMEOUT_SECONDS,
            grace: GRACE,
            checkout: Default::default(),
            podman: Default::default(),
            runner: self.local.runner.name.clone(),
            runner_id: self.local.runner.id.0.clone(),
            mark: runner::attempt::new_mark(&job.id),
        }
    }

    /// Asks what the held jobs should do: a failed leg or a cancelled run ends others.
    async fn obey(&mut self, now: Timestamp) -> Result<(), Failure> {
        if self.held.is_empty() {
            return Ok(());
        }
        let jobs = self.held.values().map(|(held, _)| held.clone()).collect();
        let request = HeartbeatRequest { jobs, free_slots: 0 };
        let answer = heartbeat(&self.local.context, super::local::RUNNER, &request, now).await.map_err(fault)?;
        for (id, command) in answer.jobs {
            match command {
                // A job that is over by now is told as fenced; its task ends by itself.
                JobCommand::Continue | JobCommand::Fenced => {}
                JobCommand::Cancel => {
                    if let Some((_, stop)) = self.held.get(&id) {
                        stop.request(StopReason::Cancelled);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nobody else could let the rest through: when only gates are left, the run ends and says how to open them.
    async fn leave_at_a_gate(&mut self, run: &Run, now: Timestamp) -> Result<(), Failure> {
        let waits = |s: &&crate::cli::client::Stage| s.state == "awaiting_approval";
        let moves = |s: &crate::cli::client::Stage| matches!(s.state.as_str(), "queued" | "running" | "rolling_back");
        let Some(stage) = run.stages.iter().find(waits) else { return Ok(()) };
        if self.gated || self.interrupted || !self.works.is_empty() || run.stages.iter().any(moves) {
            return Ok(());
        }
        self.gated = true;
        let base = stage.name.split(" (").next().unwrap_or(&stage.name);
        self.progress.say(&format!(
            "stage {} waits for approval; let it through with --approve {}",
            output::clean(&stage.name),
            output::clean(base)
        ));
        self.cancel("It waits for an approval that nobody gives locally.", now).await
    }

    async fn cancel(&mut self, reason: &str, now: Timestamp) -> Result<(), Failure> {
        use crate::engine::advance::Error;
        match cancel(&self.local.context, self.run, reason, now).await {
            // It ended by itself meanwhile.
            Ok(()) | Err(Error::Refused(_)) => Ok(()),
            Err(error @ (Error::NotFound | Error::Illegal(_) | Error::Store(_))) => Err(fault(error)),
        }
    }

    /// Waits for something to do; what stages say is shown meanwhile. `false`: the person wants out at once.
    async fn wait(&mut self, signals: &mut Signals) -> Result<bool, Failure> {
        let tick = tokio::time::sleep(TICK);
        tokio::pin!(tick);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => {
                    if self.interrupted {
                        return Ok(false);
                    }
                    self.interrupted = true;
                    self.progress.say("stopping; interrupt again to kill everything at once");
                    self.cancel("It was interrupted.", Timestamp::now()).await?;
                    return Ok(true);
                }
                Some(done) = self.works.join_next() => {
                    let (id, done) = done.map_err(fault)?;
                    self.held.remove(&id);
                    done.map_err(fault)?;
                    return Ok(true);
                }
                Some(said) = self.incoming.recv() => self.show(said),
                () = &mut tick => return Ok(true),
            }
        }
    }

    fn show_all(&mut self) {
        while let Ok(said) = self.incoming.try_recv() {
            self.show(said);
        }
    }

    fn show(&mut self, said: Said) {
        let colours = if self.to_stderr { console::colors_enabled_stderr() } else { console::colors_enabled() };
        let line = output::clean_log(&said.line, colours);
        let text = format!("{} │ {line}", output::clean(&said.stage));
        if self.to_stderr {
            self.progress.say(&text);
        } else {
            self.progress.output(&format!("{text}\n"));
        }
        let tail = self.tails.entry(said.stage).or_default();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(said.line);
    }

    /// The failed stages once more, when others talked in between.
    fn sum_up(&mut self, run: &Run) {
        let several = self.tails.len() > 1;
        let failed = run.stages.iter().filter(|s| s.error.is_some() && s.state != "cancelled");
        let tails: Vec<Tail> = failed
            .map(|stage| {
                let tail = self.tails.get(&stage.name).filter(|_| several);
                let lines = tail.map(|t| t.iter().cloned().collect()).unwrap_or_default();
                Tail { stage: stage.name.clone(), lines, more: None }
            })
            .collect();
        self.progress.finish(run, &tails, Timestamp::now());
    }
}

/// What commands get of this environment: what they get on a runner, and where tools are kept on a person's machine.
fn passed() -> Vec<String> {
    let mut names = runner::config::default_pass_environment();
    let homes = ["CARGO_HOME", "GOPATH", "GOROOT", "NVM_DIR", "PYENV_ROOT", "VIRTUAL_ENV", "USER", "LOGNAME", "SHELL"];
    names.extend(homes.map(str::to_owned));
    names
}

/// Cuts what a job says into lines.
struct Lines {
    stage: String,
    rest: Vec<u8>,
    lines: mpsc::UnboundedSender<Said>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.send(&line[..end]);
        }
    }

    fn send(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        // Nobody listens any more: the run was left.
        let _ = self.lines.send(Said { stage: self.stage.clone(), line });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.send(&self.rest);
        }
    }
}

/// What a person or a system says to stop.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(fault);
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
