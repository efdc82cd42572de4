//! The agent: registers, claims work for its free slots, keeps the leases of what it runs alive, and leaves in order.

use crate::client::{Backoff, Client, ClientError, Problem};
use crate::config::RunnerConfig;
use crate::credentials::{self, Credentials};
use crate::stop::StopReason;
use crate::supervise::{JobOrder, Supervisor};
use crate::{executor, workspace};
use anyhow::{Context as _, bail};
use pipelines_spec::protocol::{
    ClaimRequest, ClaimResponse, ExecutorKind, HeartbeatRequest, HeldJob, Job, JobCommand, RegisterRequest,
    RunnerCommand,
};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// How urgently an agent is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Run,
    Drain,
    Cancel,
}

/// Tells an agent to end.
#[derive(Debug, Clone)]
pub struct ShutdownHandle(watch::Sender<Urgency>);

/// The agent's side of a [`ShutdownHandle`].
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Urgency>);

impl ShutdownHandle {
    /// Take no more, finish, leave.
    pub fn drain(&self) {
        self.raise(Urgency::Drain);
    }

    /// Cancel what runs, and leave.
    pub fn cancel(&self) {
        self.raise(Urgency::Cancel);
    }

    fn raise(&self, to: Urgency) {
        self.0.send_if_modified(|now| {
            let more = to > *now;
            *now = (*now).max(to);
            more
        });
    }
}

impl Shutdown {
    /// A handle and what it ends.
    pub fn new() -> (ShutdownHandle, Self) {
        let (sender, receiver) = watch::channel(Urgency::Run);
        (ShutdownHandle(sender), Self(receiver))
    }

    /// Ends by signals: SIGTERM or SIGINT drains, a second one, or SIGQUIT, cancels.
    pub fn on_signals() -> std::io::Result<Self> {
        let (handle, shutdown) = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        tokio::spawn(async move {
            loop {
                let cancel = tokio::select! {
                    _ = terminate.recv() => *handle.0.borrow() >= Urgency::Drain,
                    _ = interrupt.recv() => *handle.0.borrow() >= Urgency::Drain,
                    _ = quit.recv() => true,
                };
                if cancel {
                    tracing::warn!("stopping at once; jobs are cancelled");
                    handle.cancel();
                } else {
                    tracing::info!("finishing what runs and taking no more; signal again to cancel it");
                    handle.drain();
                }
            }
        });
        Ok(shutdown)
    }

    async fn at_least(&mut self, urgency: Urgency) {
        if self.0.wait_for(|now| *now >= urgency).await.is_err() {
            // Nobody is left to ask for an end.
            std::future::pending::<()>().await;
        }
    }
}

/// A job in the agent's hands.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub epoch: i64,
    pub orders: mpsc::UnboundedSender<JobOrder>,
    /// When the last acknowledged renewal was sent.
    pub lease: watch::Sender<Instant>,
}

struct Agent {
    config: RunnerConfig,
    client: Client,
    runner_id: Mutex<String>,
    jobs: Mutex<BTreeMap<String, Held>>,
    /// Something changed that the main loop waits for: a slot, an order, an error.
    changed: Notify,
    /// A heartbeat is wanted now.
    beat: Notify,
    command: watch::Sender<RunnerCommand>,
    /// Which sign-in this is, and the newest one the server rejected: an answer to an older one says nothing of this one.
    generation: AtomicU64,
    rejected: watch::Sender<Option<u64>>,
}

/// Runs a runner until `shutdown` says otherwise, the server does, or its credentials are worth nothing.
pub async fn run(config: RunnerConfig, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(&config.data_dir)?;
    let _lock = lock(&config)?;
    let jobs = config.data_dir.join("jobs");
    let removed = tokio::task::spawn_blocking(move || workspace::remove_leftovers(&jobs)).await??;
    if removed > 0 {
        tracing::info!("removed what {removed} jobs of an earlier runner left behind");
    }
    let client = Client::new(&config.url)?;
    let credentials = tokio::select! {
        credentials = signed_in(&config, &client) => credentials?,
        () = shutdown.at_least(Urgency::Drain) => return Ok(()),
    };
    client.sign_in(credentials.token);
    let agent = Arc::new(Agent {
        config,
        client,
        runner_id: Mutex::new(credentials.runner_id),
        jobs: Mutex::default(),
        changed: Notify::new(),
        beat: Notify::new(),
        command: watch::Sender::new(RunnerCommand::None),
        generation: AtomicU64::new(0),
        rejected: watch::Sender::new(None),
    });
    let helpers = [tokio::spawn(agent.clone().heartbeats()), tokio::spawn(agent.clone().reap())];
    let result = agent.work(&mut shutdown).await;
    let left = agent.leave(&mut shutdown).await;
    helpers.iter().for_each(tokio::task::JoinHandle::abort);
    result.and(left)
}

/// One data directory belongs to one agent: another would take its jobs' directories for leftovers.
fn lock(config: &RunnerConfig) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    let path = config.data_dir.join("runner.lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path)?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| anyhow::anyhow!("another runner uses {}", config.data_dir.display()))
}

/// The stored credentials, or new ones for the registration token.
pub async fn signed_in(config: &RunnerConfig, client: &Client) -> anyhow::Result<Credentials> {
    match credentials::load(&config.data_dir, &config.url)? {
        Some(credentials) => Ok(credentials),
        None => register(config, client).await,
    }
}

/// Registers this runner and stores what it gets.
pub async fn register(config: &RunnerConfig, client: &Client) -> anyhow::Result<Credentials> {
    let Some(token) = &config.registration_token else {
        bail!(
            "this runner has no credentials; set RIVET_RUNNER_TOKEN to a registration token (rivet runner token create)"
        );
    };
    let request = RegisterRequest {
        name: config.name.clone(),
        labels: config.labels.clone(),
        executors: config.executors.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut backoff = Backoff::new(config.timers.retry, Duration::from_secs(15));
    let answer = loop {
        match client.register(token, &request).await {
            Ok(answer) => break answer,
            Err(error) if error.is_transient() => {
                tracing::warn!("could not register yet: {error}");
                tokio::time::sleep(backoff.delay()).await;
            }
            Err(error) => return Err(error).context("could not register"),
        }
    };
    let credentials = Credentials { runner_id: answer.runner_id, token: SecretString::from(answer.token) };
    credentials::store(&config.data_dir, &config.url, &credentials)?;
    tracing::info!(runner.id = credentials.runner_id, "registered as {}", config.name);
    Ok(credentials)
}

impl Agent {
    async fn work(self: &Arc<Self>, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        let mut taken = false;
        let mut backoff = Backoff::new(self.config.timers.retry, Duration::from_secs(15));
        let mut claim_id = ulid::Ulid::new().to_string();
        loop {
            if *shutdown.0.borrow() >= Urgency::Drain || self.drains() || (self.config.once && taken) {
                return Ok(());
            }
            if self.is_rejected() {
                self.sign_in_again().await?;
            }
            let slots = if self.config.once { 1 } else { self.free_slots() };
            if slots == 0 || *self.command.borrow() == RunnerCommand::Pause {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = shutdown.at_least(Urgency::Drain) => {}
                }
                continue;
            }
            match self.claim(&claim_id, slots, shutdown).await {
                Ok(answer) => {
                    backoff = Backoff::new(self.config.timers.retry, Duration::from_secs(15));
                    claim_id = ulid::Ulid::new().to_string();
                    taken |= !answer.jobs.is_empty();
                    self.obey(answer.command);
                    self.begin(answer.jobs);
                }
                // The same claim again, with the same id: if the answer was lost, it is given once more.
                Err(error) if error.is_transient() => {
                    tracing::warn!("no work could be claimed: {error}");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.delay()) => {}
                        () = shutdown.at_least(Urgency::Drain) => {}
                    }
                }
                Err(ClientError::Unauthorized(_)) => {}
                Err(error) => return Err(error).context("no work can be claimed"),
            }
        }
    }

    /// One claim. If the end comes while it waits, it is asked for once more without waiting: what it was given meanwhile
    /// is still ours to run.
    async fn claim(&self, id: &str, slots: u32, shutdown: &mut Shutdown) -> Result<ClaimResponse, ClientError> {
        let request = |wait_seconds| ClaimRequest {
            claim_id: id.to_owned(),
            slots,
            wait_seconds,
            executors: self.config.executors.clone(),
            labels: self.config.all_labels(),
        };
        let long = request(self.config.timers.claim_wait_seconds);
        let generation = self.generation.load(Ordering::Relaxed);
        let mut rejections = self.rejected.subscribe();
        let rejected = async { rejections.wait_for(|rejected| *rejected == Some(generation)).await.map(drop) };
        tokio::select! {
            answer = self.client.claim(&long) => {
                if let Err(ClientError::Unauthorized(_)) = &answer {
                    self.reject(generation);
                }
                answer
            }
            _ = rejected => {
                Err(ClientError::Unauthorized(Problem::default()))
            }
            () = shutdown.at_least(Urgency::Drain) => self.client.claim(&request(0)).await,
        }
    }

    fn begin(self: &Arc<Self>, jobs: Vec<Job>) {
        for job in jobs {
            let (orders, incoming) = mpsc::unbounded_channel();
            let held = Held { epoch: job.epoch, orders, lease: watch::Sender::new(Instant::now()) };
            let known = self.held().insert(job.id.clone(), held.clone());
            if let Some(older) = known {
                // The server gave us again what we hold: only the newer claim counts. The old one ends, and says nothing.
                let _ = older.orders.send(JobOrder::Fence);
            }
            let id = job.id.clone();
            let supervisor = Supervisor {
                mark: crate::attempt::new_mark(&job.id),
                config: self.config.clone(),
                runner_id: self.runner_id.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                client: self.client.clone(),
                job,
                held: held.clone(),
                orders: incoming,
                deferred: None,
            };
            let agent = self.clone();
            tokio::spawn(async move {
                supervisor.run().await;
                let mut jobs = agent.held();
                if jobs.get(&id).is_some_and(|now| now.epoch == held.epoch) {
                    jobs.remove(&id);
                }
                drop(jobs);
                agent.changed.notify_one();
            });
        }
        // The lease began when the server answered, some time ago: renew it before anything depends on it.
        self.beat.notify_one();
    }

    async fn heartbeats(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.config.timers.heartbeat) => {}
                () = self.beat.notified() => {}
            }
            let mut backoff = Backoff::new(self.config.timers.retry, self.config.timers.heartbeat / 2);
            while let Err(error) = self.heartbeat().await {
                tracing::warn!("the heartbeat failed: {error}");
                if !error.is_transient() {
                    break;
                }
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }

    async fn heartbeat(&self) -> Result<(), ClientError> {
        let held = self.held().clone();
        let jobs = held.iter().map(|(id, held)| HeldJob { id: id.clone(), epoch: held.epoch }).collect();
        let request = HeartbeatRequest { jobs, free_slots: self.free_slots() };
        // Counted from the sending: the answer's way back must not lengthen a lease.
        let sent = Instant::now();
        let generation = self.generation.load(Ordering::Relaxed);
        let answer = match self.client.heartbeat(&request).await {
            Ok(answer) => answer,
            Err(error) if error.is_hold() => {
                renew(&held, sent);
                return Ok(());
            }
            Err(error @ ClientError::Unauthorized(_)) => {
                self.reject(generation);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if answer.command == RunnerCommand::Hold {
            renew(&held, sent);
        }
        for (id, command) in &answer.jobs {
            let Some(held) = held.get(id) else { continue };
            let order = match command {
                JobCommand::Continue => None,
                JobCommand::Cancel => Some(JobOrder::Stop(StopReason::Cancelled)),
                JobCommand::Fenced => Some(JobOrder::Fence),
            };
            if *command != JobCommand::Fenced {
                held.lease.send_replace(sent);
            }
            if let Some(order) = order {
                let _ = held.orders.send(order);
            }
        }
        self.obey(answer.command);
        Ok(())
    }

    fn obey(&self, command: RunnerCommand) {
        let changed = self.command.send_if_modified(|now| {
            // A drain is for good; a pause ends when the server says nothing of it any more.
            let changed = *now != RunnerCommand::Drain && *now != command;
            if changed {
                *now = command;
            }
            changed
        });
        if changed {
            tracing::info!("the server's order is now {command:?}");
            self.changed.notify_one();
        }
    }

    /// The server does not know this runner any more: what it runs is somebody else's, and it starts anew if it may.
    async fn sign_in_again(&self) -> anyhow::Result<()> {
        for held in self.held().values() {
            let _ = held.orders.send(JobOrder::Fence);
        }
        credentials::forget(&self.config.data_dir)?;
        let credentials = register(&self.config, &self.client).await.context("the server rejected the credentials")?;
        self.client.sign_in(credentials.token);
        *self.runner_id.lock().unwrap_or_else(PoisonError::into_inner) = credentials.runner_id;
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_rejected(&self) -> bool {
        *self.rejected.borrow() == Some(self.generation.load(Ordering::Relaxed))
    }

    fn reject(&self, generation: u64) {
        self.rejected.send_replace(Some(generation));
        self.changed.notify_one();
    }

    async fn leave(&self, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        let mut cancelled = false;
        while !self.held().is_empty() {
            tokio::select! {
                () = self.changed.notified() => {}
                () = shutdown.at_least(Urgency::Cancel), if !cancelled => {
                    cancelled = true;
                    for held in self.held().values() {
                        let _ = held.orders.send(JobOrder::Stop(StopReason::RunnerStopped));
                    }
                }
            }
        }
        if let Err(error) = self.client.leave().await {
            // Nothing depends on it: the server notices a runner that is not heard of.
            tracing::warn!("could not say good-bye: {error}");
        }
        Ok(())
    }

    /// Removes containers of this runner's that no job of its own holds.
    async fn reap(self: Arc<Self>) {
        if !self.config.executors.contains(&ExecutorKind::Podman) {
            return;
        }
        loop {
            let id = self.runner_id.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let held = |job: &str, epoch: i64| self.held().get(job).is_some_and(|held| held.epoch == epoch);
            executor::podman::reap(&self.config.podman, &id, held).await;
            tokio::time::sleep(self.config.timers.reap).await;
        }
    }

    fn drains(&self) -> bool {
        *self.command.borrow() == RunnerCommand::Drain
    }

    fn free_slots(&self) -> u32 {
        let held = u32::try_from(self.held().len()).unwrap_or(u32::MAX);
        self.config.slots.saturating_sub(held)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn renew(held: &BTreeMap<String, Held>, sent: Instant) {
    for held in held.values() {
        held.lease.send_replace(sent);
    }
}
