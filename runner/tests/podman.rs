//! Jobs in containers, with the real podman. Where it does not work on a machine these tests say so and check nothing.

mod support;

use pipelines_spec::plan::{ErrorClass, Ready, Service};
use pipelines_spec::protocol::{Conclusion, ExecutorKind, Job, JobCommand, Trust};
use runner::RunnerConfig;
use std::process::Stdio;
use std::time::Duration;
use support::{FakeServer, Repo, TestRunner, job, script};

/// Containers of this machine's podman, or `None` where it does not work.
struct Containers {
    image: String,
    program: Vec<String>,
}

impl Containers {
    fn find() -> Option<Self> {
        let image = std::env::var("RIVET_TEST_IMAGE").unwrap_or_else(|_| "localhost/rivet-test/busybox:1".into());
        let runtimes = [vec!["podman".to_owned()], ["podman", "--runtime", "runc"].map(str::to_owned).to_vec()];
        for program in runtimes {
            let containers = Self { image: image.clone(), program };
            match containers.podman(&[
                "run",
                "--rm",
                "--pull=never",
                "--network=none",
                LIMITS[0],
                LIMITS[1],
                &image,
                "true",
            ]) {
                Ok(_) => return Some(containers),
                Err(why) => eprintln!("{}: {why}", containers.program.join(" ")),
            }
        }
        eprintln!("skipped: no container can be run on this machine (scripts/test makes what is needed)");
        None
    }

    fn podman(&self, arguments: &[&str]) -> Result<String, String> {
        let output = std::process::Command::new(&self.program[0])
            .args(&self.program[1..])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The containers of a job, running or not.
    fn of(&self, job: &str) -> Vec<String> {
        let filter = format!("label=rivet.job={job}");
        let listed = self.podman(&["ps", "--all", "--quiet", "--filter", &filter]).expect("podman lists");
        listed.lines().map(str::to_owned).collect()
    }

    fn configure(&self, config: &mut RunnerConfig) {
        config.executors = vec![ExecutorKind::Host, ExecutorKind::Podman];
        config.podman.runtime = self.program.get(2).cloned();
        config.podman.network = "none".into();
        config.podman.pull = "never".into();
        config.podman.default_image = self.image.clone();
        config.timers.grace = Duration::from_secs(1);
    }
}

/// Some machines refuse to raise limits, as podman's defaults would.
const LIMITS: [&str; 2] = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];

/// A job id of this test alone: container names are the machine's, not the test's.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

async fn run(containers: &Containers, job: Job) -> (Result<(), (ErrorClass, String)>, String) {
    let server = FakeServer::start().await;
    let id = job.id.clone();
    server.queue(job);
    let runner = TestRunner::start_with(&server, |config| containers.configure(config));
    let outcome = server.finished(&id).await.outcome;
    runner.end().await;
    assert_eq!(containers.of(&id), Vec::<String>::new(), "containers are left behind");
    let result = outcome.error.map_or(Ok(()), |error| Err((error.class, error.message)));
    assert_eq!(result.is_ok(), outcome.conclusion == Conclusion::Succeeded);
    (result, server.log(&id))
}

#[tokio::test]
async fn podman_runs_lines_in_the_stages_container() {
    let Some(containers) = Containers::find() else { return };
    let repo = Repo::new(&[("greeting.txt", "hello from the commit\n")]);
    let lines = [
        "cat greeting.txt; pwd; echo $RIVET_STAGE $CI $HOME; echo out > made",
        "busybox | head -n 1 | cut -c 1-7; (sleep 30; echo late) & echo $! > pid",
        "kill -0 $(cat pid) && echo still there; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status",
    ];
    let job =
        Job { container: Some(containers.image.clone()), checkout: repo.checkout(), ..job(&unique("lines"), &lines) };
    let (result, log) = run(&containers, job).await;
    assert_eq!(result, Ok(()), "{log}");
    let said: Vec<&str> = log.lines().filter(|line| !line.starts_with("$ ")).skip(2).collect();
    insta::assert_snapshot!(said.join("\n"), @"
    hello from the commit
    /workspace
    build true /rivet/home
    BusyBox
    still there
    CapEff:	00000000000000cb
    NoNewPrivs:	1
    ");
}

#[tokio::test]
async fn podman_holds_code_nobody_reviewed() {
    let Some(containers) = Containers::find() else { return };
    let lines = [
        "id -u; grep CapEff /proc/self/status; grep CapBnd /proc/self/status; touch here /tmp/there $HOME/home && echo writes",
        "touch /etc/x || echo read only; ip addr | grep -c inet || true; env | grep -ci token || true; ls /proc/1/environ",
    ];
    let job = Job { trust: Trust::Untrusted, ..job(&unique("untrusted"), &lines) };
    let (result, log) = run(&containers, job).await;
    assert_eq!(result, Ok(()), "{log}");
    for expected in ["65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "writes", "read only"] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
}

#[tokio::test]
async fn podman_gives_scripts_the_same_commands_as_the_host() {
    let Some(containers) = Containers::find() else { return };
    let body = r#"
        local out = process.run({ "sh", "-c", "cat; echo $A; pwd; exit 3", stdin = "in\n", env = { A = "b c" }, check = false })
        process.run("mkdir -p sub")
        local where = process.run({ "sh", "-c", "pwd", cwd = "sub" }).stdout
        local results = process.parallel({ 1, 2, 3 }, function(n) return process.run("printf " .. n).stdout end, { max = 3 })
        local ok, failure = pcall(process.run, { cmd = "sleep", args = { 60 }, timeout = "300ms" })
        local left = process.run("ps | grep -c '[s]leep 60' || true").stdout
        local missing, why = pcall(process.run, { "no-such-program" })
        assert(out.stdout == "in\nb c\n/workspace\n" and out.code == 3, out.stdout)
        assert(where == "/workspace/sub\n" and table.concat(results) == "123")
        assert(not ok and failure.class == "timeout", tostring(failure))
        assert(left == "0\n", left)
        assert(not missing and why.exit_code == 127, tostring(why))
        assert(ctx.workspace == "/workspace")
    "#;
    let job = Job { container: Some(containers.image.clone()), ..script(&unique("script"), body) };
    let (result, log) = run(&containers, job).await;
    assert_eq!(result, Ok(()), "{log}");
}

#[tokio::test]
async fn podman_starts_services_that_are_reachable_by_name() {
    let Some(containers) = Containers::find() else { return };
    let service = Service {
        image: containers.image.clone(),
        env: [("PAGE".to_owned(), "served".to_owned())].into(),
        command: ["sh", "-c", "mkdir -p /tmp/www; echo $PAGE > /tmp/www/page; exec httpd -f -p 8123 -h /tmp/www"]
            .map(str::to_owned)
            .to_vec(),
        ready: Some(Ready {
            command: ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8123/page"].map(str::to_owned).to_vec(),
            interval: 0.1,
            timeout: 20.0,
        }),
    };
    let job = Job {
        container: Some(containers.image.clone()),
        services: [("web".to_owned(), service)].into(),
        ..job(&unique("services"), &["wget -q -O - http://web:8123/page"])
    };
    let (result, log) = run(&containers, job).await;
    assert_eq!(result, Ok(()), "{log}");
    assert!(log.ends_with("\nserved\n"), "{log}");
}

#[tokio::test]
async fn podman_images_that_are_missing_are_the_machinerys_failure() {
    let Some(containers) = Containers::find() else { return };
    let absent = Job { container: Some("localhost/rivet-test/absent:1".into()), ..job(&unique("absent"), &["true"]) };
    let (result, _) = run(&containers, absent).await;
    let (class, message) = result.expect_err("it fails");
    assert_eq!(class, ErrorClass::InfraError);
    assert!(message.contains("localhost/rivet-test/absent:1"), "{message}");
    let wrong = Job { container: Some("-v/:/host".into()), ..job(&unique("wrong"), &["true"]) };
    let (result, _) = run(&containers, wrong).await;
    assert_eq!(
        result.expect_err("it fails"),
        (ErrorClass::DefinitionError, "'-v/:/host' is not an image reference".into())
    );
}

#[tokio::test]
async fn podman_containers_end_with_a_cancelled_job() {
    let Some(containers) = Containers::find() else { return };
    let id = unique("cancelled");
    let server = FakeServer::start().await;
    let lines = ["trap 'echo cleaning up; exit 0' TERM; echo waiting; while :; do sleep 0.1; done"];
    server.queue(Job { container: Some(containers.image.clone()), ..job(&id, &lines) });
    let runner = TestRunner::start_with(&server, |config| containers.configure(config));
    server.says(&id, "\nwaiting").await;
    server.with(|world| world.jobs.get_mut(&id).expect("the job").command = Some(JobCommand::Cancel));
    assert_eq!(server.finished(&id).await.outcome.conclusion, Conclusion::Cancelled);
    assert!(server.log(&id).contains("\ncleaning up"), "{}", server.log(&id));
    runner.end().await;
    assert_eq!(containers.of(&id), Vec::<String>::new());
}

#[tokio::test]
async fn podman_containers_end_with_their_agent_and_orphans_are_reaped() {
    let Some(containers) = Containers::find() else { return };
    let (id, orphan) = (unique("killed"), unique("orphan"));
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let mut agent = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivet-runner"));
    agent.args(["start", "--executor", "podman", "--url", server.url.as_str(), "--pull=never"]);
    if let Some(runtime) = containers.program.get(2) {
        agent.arg(format!("--container-runtime={runtime}"));
    }
    agent.arg("--data-dir").arg(data.path()).env("RIVET_RUNNER_TOKEN", support::REGISTRATION);
    let mut agent = agent.stderr(Stdio::null()).kill_on_drop(true).spawn().expect("the runner starts");
    server.queue(Job { container: Some(containers.image.clone()), ..job(&id, &["echo begun; sleep 300"]) });
    server.says(&id, "\nbegun").await;
    assert_eq!(containers.of(&id).len(), 1);
    agent.start_kill().expect("it is killed");
    while !containers.of(&id).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let label = format!("--label=rivet.job={orphan}");
    let arguments = ["run", "--detach", "--rm", "--network=none", LIMITS[0], LIMITS[1], "--label=rivet.runner=runner1"];
    let arguments = [&arguments[..], &["--label=rivet.epoch=1", &label, &containers.image, "sleep", "300"]].concat();
    containers.podman(&arguments).expect("an orphan");
    let runner = TestRunner::start_with(&server, |config| {
        containers.configure(config);
        config.data_dir = data.path().to_owned();
    });
    while !containers.of(&orphan).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    runner.end().await;
}
