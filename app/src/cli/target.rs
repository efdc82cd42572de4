//! Which server, which repository and which run a command means.

use super::client::{CallError, Client, List, Run, ServerArgs, segment};
use super::git::WorkTree;
use super::{Exit, Failure, output};
use std::time::{Duration, Instant};

/// Arguments that name a server and a repository.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TargetArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The repository; without it, the one this clone's remote names
    #[arg(short = 'R', long = "repo", global = true, env = "RIVET_REPO", value_name = "OWNER/REPO")]
    pub repo: Option<String>,
}

/// A run as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By its id, or the address of its page.
    Id(String),
    /// By its number in the repository.
    Number(i64),
    /// The newest of this branch.
    Newest,
}

impl TargetArgs {
    /// The client.
    pub fn client(&self) -> Result<Client, Failure> {
        self.server.client()
    }

    /// `owner/name`.
    pub fn repo(&self) -> Result<String, Failure> {
        if let Some(repo) = &self.repo {
            let parts: Vec<&str> = repo.split('/').collect();
            return match parts.as_slice() {
                [owner, name] if !owner.is_empty() && !name.is_empty() => Ok(repo.clone()),
                _ => Err(Failure::usage(format!("'{repo}' is not a repository; write OWNER/REPO"))),
            };
        }
        WorkTree::here()?.repo().ok_or_else(|| {
            Failure::usage("which repository? this folder's remote names none; say so with -R OWNER/REPO or RIVET_REPO")
        })
    }

    /// The run that `name` means; without a name, the newest of this branch.
    pub async fn run(&self, client: &Client, name: Option<&str>) -> Result<Run, Failure> {
        match named(name) {
            Named::Id(id) => client.run(&id).await.map_err(|e| self.missing(e, &id)),
            Named::Number(number) => self.numbered(client, number).await,
            Named::Newest => match self.newest(client, None).await? {
                Some(run) => Ok(run),
                None => Err(Failure::new(
                    Exit::NotFound,
                    "this branch has no run yet\nstart one with `rivet launch PIPELINE`, or list all with `rivet run list --all`",
                )),
            },
        }
    }

    /// As [`TargetArgs::run`], but waits for a run of the commit at hand to appear.
    pub async fn run_soon(&self, client: &Client, name: Option<&str>, wait: Duration) -> Result<Run, Failure> {
        let Named::Newest = named(name) else { return self.run(client, name).await };
        let head = WorkTree::here()?.head();
        let started = Instant::now();
        let mut told = false;
        loop {
            if let Some(run) = self.newest(client, head.as_deref()).await? {
                return Ok(run);
            }
            if started.elapsed() >= wait {
                return self.run(client, None).await;
            }
            if !told {
                let commit = head.as_deref().and_then(|h| h.get(..8)).unwrap_or("this commit");
                output::note(&format!("waiting for a run of {commit} to appear"));
                told = true;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn newest(&self, client: &Client, sha: Option<&str>) -> Result<Option<Run>, Failure> {
        let mut path = format!("/api/v1/runs?limit=1&repo={}", segment(&self.repo()?));
        match (sha, self.repo.is_none().then(|| WorkTree::here().ok()?.branch()).flatten()) {
            (Some(sha), _) => path.push_str(&format!("&sha={}", segment(sha))),
            (None, Some(branch)) => path.push_str(&format!("&branch={}", segment(&branch))),
            (None, None) => {}
        }
        let list: List<Run> = client.get(&path).await?;
        Ok(list.items.into_iter().next())
    }

    async fn numbered(&self, client: &Client, number: i64) -> Result<Run, Failure> {
        let repo = self.repo()?;
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/runs?limit=100&repo={}{cursor}", segment(&repo));
            let list: List<Run> = client.get(&path).await?;
            if let Some(run) = list.items.iter().find(|r| r.number == number) {
                return Ok(run.clone());
            }
            // Newest first: past a smaller number there is nothing to find.
            let passed = list.items.last().is_none_or(|r| r.number < number);
            match list.next_cursor {
                Some(next) if !passed => cursor = format!("&cursor={}", segment(&next)),
                _ => return Err(Failure::new(Exit::NotFound, format!("{repo} has no run #{number}"))),
            }
        }
    }

    fn missing(&self, error: CallError, id: &str) -> Failure {
        if error.status == Some(404) {
            let message =
                format!("there is no run '{}' that you may see; `rivet run list` shows them", output::clean(id));
            return Failure::new(Exit::NotFound, message);
        }
        error.into()
    }
}

/// What a run is named by: an id, `#number` or a page's address.
pub fn named(name: Option<&str>) -> Named {
    let Some(name) = name else { return Named::Newest };
    if let Some(number) = name.strip_prefix('#').unwrap_or(name).parse::<i64>().ok().filter(|n| *n > 0) {
        return Named::Number(number);
    }
    if let Some((_, rest)) = name.split_once("/runs/") {
        return Named::Id(rest.split(['/', '?', '#']).next().unwrap_or(rest).to_owned());
    }
    Named::Id(name.to_owned())
}

/// `90`, `90s`, `10m`, `2h`, as a clap value parser.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write 90s, 10m or 2h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_in_three_ways() {
        assert_eq!(named(None), Named::Newest);
        assert_eq!(named(Some("#12")), Named::Number(12));
        assert_eq!(named(Some("12")), Named::Number(12));
        let id = Named::Id("01jabc".to_owned());
        assert_eq!(named(Some("01jabc")), id);
        assert_eq!(named(Some("https://ci.example.org/runs/01jabc/stages/build#L3")), id);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("10 minutes").is_err());
        assert!(parse_duration("999999999999999999999h").is_err());
    }
}
