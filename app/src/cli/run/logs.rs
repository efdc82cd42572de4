//! `rivet run logs`: what stages said, all of it or live.

use crate::cli::client::{CallError, Client, Run, segment};
use crate::cli::target::TargetArgs;
use crate::cli::{Exit, Failure, follow, output};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// Arguments of `rivet run logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    one: super::One,
    /// Only this stage
    #[arg(long, short)]
    stage: Option<String>,
    /// This attempt, from 1; the newest where unsaid
    #[arg(long, requires = "stage")]
    attempt: Option<u32>,
    /// Follow until the run ends; the exit code is its outcome
    #[arg(long, short)]
    follow: bool,
}

/// Prints lines of one or several stages.
struct Printer {
    prefixed: bool,
    json: bool,
    terminal: bool,
}

impl Printer {
    fn line(&self, stage: &str, line: &str) {
        let text = if self.json {
            format!("{}\n", json!({ "schema_version": output::SCHEMA_VERSION, "stage": stage, "line": line }))
        } else {
            // A file gets the bytes as they were, a terminal only what cannot steer it.
            let line = if self.terminal { output::clean_log(line, console::colors_enabled()) } else { line.to_owned() };
            let prefix = if self.prefixed { format!("{} │ ", output::clean(stage)) } else { String::new() };
            format!("{prefix}{line}\n")
        };
        output::print_data(&text);
    }
}

/// Runs the command.
pub async fn run(target: &TargetArgs, client: &Client, args: &Args) -> Result<Exit, Failure> {
    let run = target.run(client, args.one.run.as_deref()).await?;
    let run = client.run(&run.id).await?;
    let names = chosen(&run, args)?;
    let terminal = std::io::stdout().is_terminal();
    let printer = Printer { prefixed: names.len() > 1, json: args.one.json, terminal };
    if args.follow && !run.has_ended() {
        return live(client, run, &names, &printer).await;
    }
    for name in &names {
        let attempt = args.attempt.map(|n| format!("?attempt={n}")).unwrap_or_default();
        let text = client.text(&format!("{}{attempt}", path(&run, name))).await?;
        text.lines().for_each(|line| printer.line(name, line));
    }
    Ok(if args.follow { follow::outcome(&run) } else { Exit::Done })
}

fn path(run: &Run, stage: &str) -> String {
    format!("/api/v1/runs/{}/stages/{}/logs", segment(&run.id), segment(stage))
}

/// The stages to print: the named one, or (without a name) those that ran; when some failed, those alone.
fn chosen(run: &Run, args: &Args) -> Result<Vec<String>, Failure> {
    let all: Vec<&str> = run.stages.iter().map(|s| s.name.as_str()).collect();
    if let Some(name) = &args.stage {
        // The name in the file stands for all its legs.
        let leg = |stage: &str| {
            stage.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        };
        let meant: Vec<String> = all.iter().filter(|stage| leg(stage)).map(ToString::to_string).collect();
        if !meant.is_empty() {
            return Ok(meant);
        }
        let near = pipelines_spec::suggest::nearest(name, all);
        let hint = near.map(|n| format!("; did you mean '{}'?", output::clean(n))).unwrap_or_default();
        return Err(Failure::new(Exit::NotFound, format!("run #{} has no stage '{name}'{hint}", run.number)));
    }
    if args.follow {
        return Ok(run.stages.iter().map(|s| s.name.clone()).collect());
    }
    let failed: Vec<String> = run.stages.iter().filter(|s| s.state == "failed").map(|s| s.name.clone()).collect();
    if failed.is_empty() {
        return Ok(run.stages.iter().filter(|s| s.attempt > 0).map(|s| s.name.clone()).collect());
    }
    output::note(&format!("the failed stages; --stage NAME shows another of {}", output::clean(&all.join(", "))));
    Ok(failed)
}

/// Prints lines as they come until the run (or the one chosen stage) has ended.
async fn live(client: &Client, mut run: Run, names: &[String], printer: &Printer) -> Result<Exit, Failure> {
    let (lines, mut incoming) = mpsc::channel::<(String, String)>(1024);
    let mut reading: BTreeSet<String> = BTreeSet::new();
    let mut readers = tokio::task::JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        for stage in run.stages.iter().filter(|s| names.contains(&s.name) && s.attempt > 0) {
            if reading.insert(format!("{}:{}", stage.name, stage.attempt)) {
                readers.spawn(read(
                    client.clone(),
                    path(&run, &stage.name),
                    stage.attempt,
                    stage.name.clone(),
                    lines.clone(),
                ));
            }
        }
        let wanted_ended =
            run.stages.iter().filter(|s| names.contains(&s.name)).all(super::super::client::Stage::has_ended);
        if (run.has_ended() || wanted_ended) && readers.is_empty() {
            while let Ok((stage, line)) = incoming.try_recv() {
                printer.line(&stage, &line);
            }
            return Ok(follow::outcome(&run));
        }
        tokio::select! {
            Some((stage, line)) = incoming.recv() => printer.line(&stage, &line),
            Some(done) = readers.join_next() => {
                if let Ok(Err(error)) = done {
                    return Err(error.into());
                }
            }
            _ = tick.tick() => run = client.run(&run.id).await?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}

/// Sends the lines of one attempt until the server says that there are no more. A broken stream goes on where it stopped.
async fn read(
    client: Client,
    path: String,
    attempt: i64,
    stage: String,
    lines: mpsc::Sender<(String, String)>,
) -> Result<(), CallError> {
    let path = format!("{path}?attempt={attempt}");
    let mut last: Option<String> = None;
    let mut failures = 0;
    loop {
        let mut events = match client.events(&path, last.as_deref()).await {
            Ok(events) => events,
            Err(error) if failures < 30 && error.status.is_none_or(|s| s >= 502) => {
                failures += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        failures = 0;
        while let Some(event) = events.next().await {
            if event.event == "end" {
                return Ok(());
            }
            for line in event.data.lines() {
                if lines.send((stage.clone(), line.to_owned())).await.is_err() {
                    return Ok(());
                }
            }
            last = event.id.or(last);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
