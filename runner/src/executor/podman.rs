//! Commands in a container, through podman's (or docker's) command line.
//!
//! One container a stage: it is started once with something that only waits, and every command is an `exec` in it. So
//! what one command leaves behind (a server, an installed package) the next one finds, and starting is paid for once.

use super::host::{Host, inside};
use super::{Command, ExecError, Exit, Job, Status, limited};
use crate::attempt::{Attempt, Options, job_error};
use crate::facts;
use crate::processes::MARK;
use nix::sys::resource::{Resource, getrlimit};
use pipelines_spec::plan::{ErrorClass, Service};
use pipelines_spec::protocol::{self, ExecutorKind, JobError, Trust};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the workspace is in every container.
pub const WORKSPACE: &str = "/workspace";
const HOME: &str = "/rivet/home";
/// The label that says which job a container belongs to.
pub const LABEL_JOB: &str = "rivet.job";
/// The label that says which runner made a container.
pub const LABEL_RUNNER: &str = "rivet.runner";
const PULL_LIMIT: Duration = Duration::from_secs(600);
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// Waits for ever, ends at once when told to, and collects the orphans of what runs beside it.
const WAITER: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
/// Signals every process that carries a mark; written for the smallest shells.
const SIGNALLER: &str =
    r#"for p in /proc/[0-9]*; do grep -qs "$0" "$p/environ" && kill -"$1" "${p#/proc/}" 2>/dev/null; done; :"#;
/// Variables that mean something to podman itself, so that their value for a command must not be in podman's environment.
const NOT_BY_NAME: &[&str] = &["PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];

/// How containers are made on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodmanOptions {
    /// The program: `podman`, `docker`, or a path.
    pub program: String,
    /// The OCI runtime (`--runtime`), where the program's own choice does not work here.
    pub runtime: Option<String>,
    /// Further options of the program itself, before its command.
    pub global_options: Vec<String>,
    /// Further options of `run`.
    pub run_options: Vec<String>,
    /// When images are fetched: `missing`, `always`, `never`.
    pub pull: String,
    /// The image of jobs that name none.
    pub default_image: String,
    /// The network of trusted jobs.
    pub network: String,
    /// The network of jobs whose code nobody reviewed.
    pub untrusted_network: String,
    /// `--memory`; empty: no bound.
    pub memory: String,
    /// `--cpus`; empty: no bound.
    pub cpus: String,
    /// `--pids-limit`; 0: no bound.
    pub pids: u32,
}

impl Default for PodmanOptions {
    fn default() -> Self {
        Self {
            program: "podman".into(),
            runtime: None,
            global_options: Vec::new(),
            run_options: Vec::new(),
            pull: "missing".into(),
            default_image: "docker.io/library/debian:stable-slim".into(),
            network: String::new(),
            untrusted_network: "none".into(),
            memory: "4g".into(),
            cpus: String::new(),
            pids: 2048,
        }
    }
}

impl PodmanOptions {
    /// The program and the options that come before every command of it.
    pub fn base(&self) -> Vec<String> {
        let mut argv = vec![self.program.clone()];
        if let Some(runtime) = &self.runtime
            && self.is_podman()
        {
            argv.extend(["--runtime".to_owned(), runtime.clone()]);
        }
        argv.extend(self.global_options.iter().cloned());
        argv
    }

    /// The command that removes a container, whatever state it is in.
    pub(crate) fn removal(&self, name: &str) -> Vec<String> {
        let mut argv = self.base();
        argv.extend(["rm", "--force", "--volumes"].map(str::to_owned));
        if self.is_podman() {
            argv.extend(["--time", "0", "--ignore"].map(str::to_owned));
        }
        argv.push(name.to_owned());
        argv
    }

    fn is_podman(&self) -> bool {
        Path::new(&self.program).file_name().is_some_and(|name| name.to_string_lossy().contains("podman"))
    }
}

/// The podman executor of one job.
pub struct Podman {
    options: PodmanOptions,
    host: Host,
    name: String,
    labels: Vec<String>,
    image: String,
    environment: BTreeMap<String, String>,
    services: BTreeMap<String, Service>,
    trusted: bool,
    workspace: PathBuf,
    home: PathBuf,
    temporary: PathBuf,
    life: Duration,
}

impl Podman {
    /// A container of `image` for one attempt; nothing is started yet.
    pub(crate) fn new(attempt: &Attempt, image: String) -> Result<Self, JobError> {
        let (job, options) = (&attempt.job, &attempt.options);
        for image in std::iter::once(&image).chain(job.services.values().map(|service| &service.image)) {
            if !is_image(image) {
                return Err(job_error(ErrorClass::DefinitionError, format!("'{image}' is not an image reference")));
            }
        }
        let limit = job.timeout_seconds.unwrap_or(options.timeout_seconds);
        let mut environment = BTreeMap::from([("HOME".to_owned(), HOME.to_owned())]);
        environment.extend(facts::environment(job, Path::new(WORKSPACE)));
        Ok(Self {
            options: options.podman.clone(),
            host: Host::new(options.workspace.clone(), client_environment(), options.mark.clone(), options.grace),
            name: container_name(job),
            labels: [
                format!("{LABEL_JOB}={}", job.id),
                format!("rivet.epoch={}", job.epoch),
                format!("{LABEL_RUNNER}={}", options.runner_id),
            ]
            .to_vec(),
            image,
            environment,
            services: job.services.clone(),
            trusted: job.trust == Trust::Trusted,
            workspace: options.workspace.clone(),
            home: options.home.clone(),
            temporary: options.temporary.clone(),
            life: Duration::from_secs(limit + 60) + options.grace,
        })
    }

    /// Fetches the images and starts the containers.
    pub async fn prepare(&self, job: &Job) -> Result<(), ExecError> {
        self.pull(&self.image, job).await?;
        self.call("run", self.run_arguments(), BTreeMap::new(), CALL_LIMIT, job).await?;
        for (name, service) in &self.services {
            self.pull(&service.image, job).await?;
            self.start_service(name, service, job).await?;
        }
        for (name, service) in &self.services {
            self.await_service(name, service, job).await?;
        }
        Ok(())
    }

    /// Runs one command in the stage's container.
    pub async fn run(&self, command: &Command, job: &Job) -> Result<Exit, ExecError> {
        let mark = self.host.next_mark();
        let mut environment = self.environment.clone();
        environment.extend(command.env.clone());
        environment.insert(MARK.into(), mark.clone());
        let mut argv = self.options.base();
        argv.push("exec".into());
        if command.stdin.is_some() {
            argv.push("--interactive".into());
        }
        argv.extend(["--workdir".to_owned(), directory(command.cwd.as_deref())?]);
        let mut client = client_environment();
        pass_environment(&environment, &mut argv, &mut client);
        argv.push(self.name.clone());
        argv.extend(limited(command));
        let exit = self.host.supervise(&argv, &client, &self.workspace, command, job, &mark, Some(self)).await?;
        match exit.status {
            // podman's own failure, not the command's: the container is gone.
            Status::Code(125) if !self.is_running(job).await => {
                Err(ExecError::Infra(exit.tail.unwrap_or_else(|| "the container has ended".into())))
            }
            _ => Ok(exit),
        }
    }

    /// Removes the containers.
    pub async fn finish(&self) {
        for name in self.services.keys().map(|name| self.service_name(name)).chain([self.name.clone()]) {
            let argv = self.options.removal(&name);
            if let Err(error) = quiet(&argv, CALL_LIMIT).await {
                tracing::warn!(container = self.name, "could not remove a container: {error}");
            }
        }
        self.host.finish().await;
    }

    /// Signals every process in the container that carries `mark`.
    pub(super) async fn signal(&self, mark: &str, signal: &str) {
        let mut argv = self.options.base();
        let mark = format!("{MARK}={mark}");
        argv.extend(["exec", &self.name, "sh", "-c", SIGNALLER, &mark, signal].map(str::to_owned));
        if let Err(error) = quiet(&argv, Duration::from_secs(10)).await {
            tracing::debug!(container = self.name, "could not signal in a container: {error}");
        }
    }

    async fn pull(&self, image: &str, job: &Job) -> Result<(), ExecError> {
        let mut exists = self.options.base();
        exists.extend(["image", "inspect", "--format", "{{.Id}}", image].map(str::to_owned));
        let present = quiet(&exists, CALL_LIMIT).await.is_ok();
        match self.options.pull.as_str() {
            "never" if present => Ok(()),
            "never" => Err(ExecError::Infra(format!("the image {image} is not on this runner, which fetches none"))),
            "missing" if present => Ok(()),
            _ => {
                job.log.line(&format!("Pulling {image}"));
                let arguments = vec!["--quiet".to_owned(), image.to_owned()];
                self.call("pull", arguments, BTreeMap::new(), PULL_LIMIT, job).await
            }
        }
    }

    fn run_arguments(&self) -> Vec<String> {
        let mut arguments = self.confinement(&self.name);
        let mount = if self.trusted || !nix::unistd::geteuid().is_root() { "" } else { ",U" };
        let suffix = if self.options.is_podman() { format!(":rw,nosuid,nodev{mount}") } else { ":rw".into() };
        arguments.push(format!("--volume={}:{WORKSPACE}{suffix}", self.workspace.display()));
        arguments.push(format!("--volume={}:{HOME}{suffix}", self.home.display()));
        if !self.trusted {
            // Its root is read-only. A tmpfs would keep the mode of the image's directory, which may be root's alone.
            arguments.push(format!("--volume={}:/tmp{suffix}", self.temporary.display()));
        }
        arguments.push(format!("--workdir={WORKSPACE}"));
        arguments.extend(self.user());
        let network = if self.trusted { &self.options.network } else { &self.options.untrusted_network };
        if !network.is_empty() {
            arguments.push(format!("--network={network}"));
        }
        arguments.extend(self.services.keys().map(|name| format!("--add-host={name}:127.0.0.1")));
        arguments.push("--entrypoint=sh".into());
        arguments.extend(self.options.run_options.iter().cloned());
        arguments.extend([self.image.clone(), "-c".into(), WAITER.into()]);
        arguments
    }

    /// What every container of a job is denied, whoever's code it runs.
    fn confinement(&self, name: &str) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--detach", "--rm", "--pull=never", "--cap-drop=all", "--ipc=private"].map(str::to_owned).to_vec();
        arguments.push(format!("--name={name}"));
        arguments.extend(self.labels.iter().map(|label| format!("--label={label}")));
        arguments.extend(["--security-opt=no-new-privileges".into(), "--ulimit=core=0:0".into()]);
        // Said outright, because the program's own defaults may be above what this machine allows.
        arguments.push(ulimit("nofile", Resource::RLIMIT_NOFILE, 65_536));
        arguments.push(ulimit("nproc", Resource::RLIMIT_NPROC, 32_768));
        if self.options.is_podman() {
            // conmon ends the container even if nobody of ours is left to do it.
            arguments.push(format!("--timeout={}", self.life.as_secs()));
            arguments.extend(["--image-volume=ignore", "--http-proxy=false", "--log-driver=none"].map(str::to_owned));
        }
        if !self.options.memory.is_empty() {
            arguments.push(format!("--memory={}", self.options.memory));
            arguments.push(format!("--memory-swap={}", self.options.memory));
        }
        if !self.options.cpus.is_empty() {
            arguments.push(format!("--cpus={}", self.options.cpus));
        }
        if self.options.pids > 0 {
            arguments.push(format!("--pids-limit={}", self.options.pids));
        }
        arguments
    }

    /// Reviewed code may be root of its container, with the few rights package managers need; other code is nobody and
    /// writes to its workspace and its home alone.
    fn user(&self) -> Vec<String> {
        if self.trusted {
            let rights = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"];
            return rights.iter().map(|right| format!("--cap-add={right}")).collect();
        }
        let mut arguments = vec!["--user=65534:65534".to_owned(), "--read-only".into(), "--hostname=rivet".into()];
        if self.options.is_podman() {
            arguments.push("--read-only-tmpfs=false".into());
            if !nix::unistd::geteuid().is_root() {
                arguments.push("--userns=keep-id:uid=65534,gid=65534".into());
            }
        }
        arguments
    }

    fn service_name(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A service shares the stage's network, so its name means this container itself.
    async fn start_service(&self, name: &str, service: &Service, job: &Job) -> Result<(), ExecError> {
        let mut arguments = self.confinement(&self.service_name(name));
        let rights = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"];
        arguments.extend(rights.iter().map(|right| format!("--cap-add={right}")));
        arguments.push(format!("--network=container:{}", self.name));
        arguments.extend(self.options.run_options.iter().cloned());
        let mut client = BTreeMap::new();
        pass_environment(&service.env, &mut arguments, &mut client);
        arguments.push(service.image.clone());
        arguments.extend(service.command.iter().cloned());
        job.log.line(&format!("Starting service {name} ({})", service.image));
        self.call("run", arguments, client, CALL_LIMIT, job).await
    }

    async fn await_service(&self, name: &str, service: &Service, job: &Job) -> Result<(), ExecError> {
        let Some(ready) = &service.ready else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs_f64(ready.timeout.clamp(0.0, 3_600.0));
        let mut argv = self.options.base();
        argv.extend(["exec".to_owned(), self.service_name(name)]);
        argv.extend(ready.command.iter().cloned());
        loop {
            let Err(error) = quiet(&argv, CALL_LIMIT).await else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(ExecError::Infra(format!("service {name} was not ready in {} s: {error}", ready.timeout)));
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs_f64(ready.interval.clamp(0.05, 60.0))) => {}
                _ = job.stop.requested() => return Err(ExecError::Infra("stopped".into())),
            }
        }
    }

    async fn is_running(&self, job: &Job) -> bool {
        let mut argv = self.options.base();
        argv.extend(["container", "inspect", "--format", "{{.State.Running}}", &self.name].map(str::to_owned));
        let running = quiet(&argv, CALL_LIMIT).await;
        job.stop.reason().is_none() && running.is_ok_and(|text| text.trim() == "true")
    }

    async fn call(
        &self,
        what: &'static str,
        arguments: Vec<String>,
        extra: BTreeMap<String, String>,
        limit: Duration,
        job: &Job,
    ) -> Result<(), ExecError> {
        let mut argv = self.options.base();
        argv.push(what.into());
        argv.extend(arguments);
        let mut client = client_environment();
        client.extend(extra);
        let command = Command { argv: argv.clone(), timeout: Some(limit), capture: true, ..Command::default() };
        let quiet_job = Job { log: job.log.silent(), stop: job.stop.clone() };
        // A container's monitor outlives the call on purpose, so it must not carry the mark of what the call started.
        let exit = self.host.spawn_and_wait(&argv, &client, Path::new("/"), &command, &quiet_job).await?;
        match exit.status {
            Status::Code(0) => Ok(()),
            status => {
                let said = exit.tail.unwrap_or_else(|| format!("{status:?}"));
                Err(ExecError::Infra(format!("{} {what} failed: {said}", self.options.program)))
            }
        }
    }
}

fn container_name(job: &protocol::Job) -> String {
    format!("rivet-{}-{}", job.id, job.epoch)
}

/// The commands that remove every container `job` may have.
pub(crate) fn removals(job: &protocol::Job, options: &Options) -> Vec<Vec<String>> {
    if !options.executors.contains(&ExecutorKind::Podman) {
        return Vec::new();
    }
    let name = container_name(job);
    let services = job.services.keys().map(|service| format!("{name}-{service}"));
    services.chain([name.clone()]).map(|name| options.podman.removal(&name)).collect()
}

/// Runs a short call of the container program and gives what it printed.
pub(crate) async fn quiet(argv: &[String], limit: Duration) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("no program")?;
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(client_environment())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(limit, output).await {
        Err(_) => Err(format!("no answer in {} s", limit.as_secs())),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// What podman needs of the runner's environment, and nothing else of it.
pub(crate) const CLIENT_ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE",
    "CONTAINER_HOST",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "TMPDIR",
];

fn client_environment() -> BTreeMap<String, String> {
    let names = CLIENT_ENVIRONMENT.iter();
    names.filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// Removes the containers of runner `runner_id` whose job and epoch nobody `held`.
pub(crate) async fn reap(options: &PodmanOptions, runner_id: &str, held: impl Fn(&str, i64) -> bool) {
    let mut argv = options.base();
    argv.extend(["ps", "--all", "--no-trunc", "--filter"].map(str::to_owned));
    argv.push(format!("label={LABEL_RUNNER}={runner_id}"));
    argv.push("--format".into());
    argv.push(format!("{{{{.ID}}}} {{{{index .Labels \"{LABEL_JOB}\"}}}} {{{{index .Labels \"rivet.epoch\"}}}}"));
    let listed = match quiet(&argv, CALL_LIMIT).await {
        Ok(listed) => listed,
        Err(error) => return tracing::warn!("could not look for containers left behind: {error}"),
    };
    for line in listed.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(id), Some(job), Some(epoch)) = (words.next(), words.next(), words.next()) else { continue };
        if epoch.parse().is_ok_and(|epoch| held(job, epoch)) {
            continue;
        }
        tracing::info!(job.id = job, "removing a container left behind by job {job}");
        if let Err(error) = quiet(&options.removal(id), CALL_LIMIT).await {
            tracing::warn!(job.id = job, "could not remove it: {error}");
        }
    }
}

/// Hands variables over by name, so that their values are in no process list.
fn pass_environment(
    variables: &BTreeMap<String, String>,
    argv: &mut Vec<String>,
    client: &mut BTreeMap<String, String>,
) {
    for (name, value) in variables {
        argv.push("--env".into());
        if NOT_BY_NAME.contains(&name.as_str()) || client.contains_key(name) {
            argv.push(format!("{name}={value}"));
        } else {
            argv.push(name.clone());
            client.insert(name.clone(), value.clone());
        }
    }
}

fn ulimit(name: &str, resource: Resource, wanted: u64) -> String {
    let hard = getrlimit(resource).map_or(wanted, |(_, hard)| hard);
    let limit = wanted.min(hard);
    format!("--ulimit={name}={limit}:{limit}")
}

fn directory(cwd: Option<&str>) -> Result<String, ExecError> {
    let Some(cwd) = cwd else { return Ok(WORKSPACE.into()) };
    let path = inside(cwd).ok_or_else(|| ExecError::OutsideWorkspace(cwd.to_owned()))?;
    Ok(Path::new(WORKSPACE).join(path).display().to_string())
}

/// Whether a text can be an image's name and nothing else: no option, no transport, no white space.
fn is_image(image: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    !image.is_empty()
        && image.len() <= 255
        && image.as_bytes()[0].is_ascii_alphanumeric()
        && image.bytes().all(plain)
        && !image.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_images_are_images() {
        for good in ["rust:latest", "docker.io/library/a_b:1.2-x", "localhost:5000/a@sha256:00ff"] {
            assert!(is_image(good), "{good}");
        }
        for bad in ["", "-v/:/h", "a b", "docker://x", "$(id)", &"a".repeat(300)] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn values_of_variables_are_in_no_process_list() {
        let mut argv = Vec::new();
        let mut client = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        let variables = [("TOKEN", "hunter22"), ("PATH", "/opt/bin")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        pass_environment(&variables.into(), &mut argv, &mut client);
        assert_eq!(argv, ["--env", "PATH=/opt/bin", "--env", "TOKEN"]);
        assert_eq!(client["TOKEN"], "hunter22");
        assert_eq!(client["PATH"], "/bin");
    }
}
