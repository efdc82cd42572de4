//! `doctor`: looks whether this machine can be a runner, and says in plain words what is missing.

use crate::config::RunnerConfig;
use crate::executor::podman::{PodmanOptions, quiet};
use std::process::ExitCode;
use std::time::Duration;

const PROBE: Duration = Duration::from_secs(20);

/// First fixed version of each maintained git series (CVE-2025-48384 and its kin).
const GIT_FIXED: &[(u32, u32, u32)] =
    &[(2, 43, 7), (2, 44, 4), (2, 45, 4), (2, 46, 4), (2, 47, 3), (2, 48, 2), (2, 49, 1), (2, 50, 1)];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// Whether a runner can work with it as it is.
    pub state: FindingState,
    /// What was found, and what to do.
    pub text: String,
}

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingState {
    /// Fine.
    Good,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Bad,
}

/// Looks at everything a runner needs.
pub async fn examine(config: &RunnerConfig) -> Vec<Finding> {
    vec![git().await, podman(&config.podman).await, server(config).await, disk(config)]
}

/// Prints the findings; fails where one is bad.
pub async fn report(config: &RunnerConfig) -> ExitCode {
    let findings = examine(config).await;
    for Finding { what, state, text } in &findings {
        let sign = match state {
            FindingState::Good => "ok  ",
            FindingState::Warning => "warn",
            FindingState::Bad => "BAD ",
        };
        println!("{sign} {what:<8} {text}");
    }
    let bad = findings.iter().any(|finding| finding.state == FindingState::Bad);
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn git() -> Finding {
    let (state, text) = match quiet(&["git".into(), "--version".into()], PROBE).await {
        Err(error) => (FindingState::Bad, format!("git does not run ({error}); install it")),
        Ok(said) => match version(&said) {
            Some(version) if is_fixed(version) => (FindingState::Good, said.trim().to_owned()),
            Some(_) => (
                FindingState::Warning,
                format!("{} has known holes that a repository can use; install 2.50.1 or later", said.trim()),
            ),
            None => (FindingState::Warning, format!("git says '{}', which names no version", said.trim())),
        },
    };
    Finding { what: "git", state, text }
}

fn version(text: &str) -> Option<(u32, u32, u32)> {
    let word = text.split_ascii_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or_default()))
}

fn is_fixed(version: (u32, u32, u32)) -> bool {
    let series = GIT_FIXED.iter().find(|fixed| (fixed.0, fixed.1) == (version.0, version.1));
    series.map_or(version > (2, 50, 1), |fixed| version >= *fixed)
}

async fn podman(options: &PodmanOptions) -> Finding {
    let (state, text) = match probe_podman(options).await {
        Ok(found) if is_old_runtime(&found) => (
            FindingState::Warning,
            format!(
                "{found}: unless your distribution has mended it, code can break out of containers (runc 1.2.8, 1.3.3)"
            ),
        ),
        Ok(found) => (FindingState::Good, found),
        Err(why) => (FindingState::Warning, format!("{why}; jobs that name a container cannot run here")),
    };
    Finding { what: "podman", state, text }
}

/// Whether containers can be made here: the program's version, or why not.
pub async fn probe_podman(options: &PodmanOptions) -> Result<String, String> {
    let call = |words: &[&str]| {
        let mut argv = options.base();
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        argv
    };
    let version = quiet(&call(&["--version"]), PROBE).await?;
    // A version says only that the program is there; `info` sets up storage and the runtime as `run` would.
    let info = quiet(&call(&["info", "--format", "json"]), PROBE).await?;
    let runtime = serde_json::from_str::<serde_json::Value>(&info).ok();
    let runtime = runtime.as_ref().and_then(|info| info.pointer("/host/ociRuntime/version")?.as_str());
    let runtime = runtime.and_then(|text| text.lines().next()).map(|line| format!(", {line}")).unwrap_or_default();
    Ok(format!("{}{runtime}", version.trim()))
}

/// Whether the OCI runtime is one whose known ways out of a container are closed (CVE-2025-31133 and its kin).
fn is_old_runtime(text: &str) -> bool {
    let Some((_, runtime)) = text.split_once("runc version ") else { return false };
    version(runtime).is_some_and(|found| found < (1, 2, 8) || (found.1 == 3 && found < (1, 3, 3)))
}

async fn server(config: &RunnerConfig) -> Finding {
    let address = config.url.clone();
    let answer = async {
        let client = reqwest::Client::builder().timeout(PROBE).build()?;
        client.get(address.join("/healthz").unwrap_or(address)).send().await
    };
    let (state, text) = match answer.await {
        Ok(answer) if answer.status().is_success() => (FindingState::Good, format!("{} answers", config.url)),
        Ok(answer) => (FindingState::Warning, format!("{} answers {}", config.url, answer.status())),
        Err(error) => (FindingState::Bad, format!("{} cannot be reached: {}", config.url, error.without_url())),
    };
    Finding { what: "server", state, text }
}

fn disk(config: &RunnerConfig) -> Finding {
    const LEAST: u64 = 1 << 30;
    let existing = config.data_dir.ancestors().find(|path| path.exists()).unwrap_or(&config.data_dir);
    let (state, text) = match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let state = if free < LEAST { FindingState::Bad } else { FindingState::Good };
            (state, format!("{:.1} GiB free at {}", free as f64 / (1 << 30) as f64, existing.display()))
        }
        Err(error) => (FindingState::Bad, format!("{}: {error}", existing.display())),
    };
    Finding { what: "disk", state, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_known_holes_are_told_from_fixed_ones() {
        for (text, fixed) in [
            ("git version 2.47.3", true),
            ("git version 2.47.2", false),
            ("git version 2.39.5 (Apple Git-154)", false),
            ("git version 2.50.0", false),
            ("git version 2.50.1", true),
            ("git version 2.51.0", true),
            ("git version 3.0.0.rc1", true),
        ] {
            assert_eq!(version(text).is_some_and(is_fixed), fixed, "{text}");
        }
    }
}
